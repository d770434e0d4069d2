// Package libvirttest starts libvirt's own daemon for tests: the real one, with everything that
// it writes in a folder of its own, as a user without rights if the test is root. Its drivers
// for QEMU ("qemu:///session") and for tests ("test:///default") are those of any daemon.
package libvirttest
