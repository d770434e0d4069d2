// Package linux is the agent as the first process of the rescue image: it loads drivers,
// brings up the network, finds the volumes of the host, opens them with ntfs-3g, and ends the
// host's stay in the image whatever happens. BitLocker volumes it opens by device-mapper, for
// as long as it looks at them, and read-only until there is something to repair.
//
// Volumes that Windows did not leave cleanly are its normal patients. What must be done to
// one before it may be written to, and when it must not be, is decided in dirty.go alone.
package linux
