package linux

// vendorNames returns the names that the vendor of a SCSI disk gave it, in text: the designators
// of type 0 of its device identification page (SPC-4, VPD page 0x83). Google Compute Engine says
// there what a disk is called on its instance, and nowhere else; scsi_id shows the same.
func vendorNames(page []byte) (names []string) {
	if len(page) < 4 || page[1] != 0x83 {
		return nil
	}
	const text, vendor, unit = 2, 0, 0 // code set, designator type, association
	for rest := page[4:]; len(rest) >= 4; {
		size := int(rest[3])
		if 4+size > len(rest) {
			return names
		}
		if rest[0]&0x0f == text && rest[1]&0x0f == vendor && rest[1]>>4&0x03 == unit {
			if s := printable(string(rest[4 : 4+size])); s != "" {
				names = append(names, s)
			}
		}
		rest = rest[4+size:]
	}
	return names
}
