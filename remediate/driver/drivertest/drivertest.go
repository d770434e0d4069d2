// Package drivertest is for those who write a driver, and for those who use one.
//
// [Fake] is a driver that works on hosts that are not there ([World]), with faults to order:
// the engine is tested on it.
package drivertest
