package vm

// Fetch is what a BMC does with an image.
var Fetch = fetch
