// Package samba starts Samba's domain controller, for the tests of what speaks to Active
// Directory: it is another project's, so that they do not test what we believe.
package samba
