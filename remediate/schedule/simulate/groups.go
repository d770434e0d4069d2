package simulate

import (
	"slices"
	"strconv"
	"strings"
)

// A group is sites of one country that keep one clock.
type group struct {
	region, country, zone string
	weight                float64
}

// groupTable has 73 groups of 62 countries: region, country, share of the sites, zones. The
// shares are made up, after the size of economies.
const groupTable = `
AMER US 26 America/New_York America/Chicago America/Denver America/Los_Angeles America/Phoenix
AMER CA 4 America/Toronto America/Vancouver America/Halifax
AMER MX 2 America/Mexico_City America/Tijuana
AMER BR 3 America/Sao_Paulo America/Manaus
AMER AR 1 America/Argentina/Buenos_Aires
AMER CL 1 America/Santiago
AMER CO 1 America/Bogota
AMER PE 1 America/Lima
AMER CR 0.5 America/Costa_Rica
AMER PA 0.5 America/Panama
AMER UY 0.5 America/Montevideo
EMEA GB 5 Europe/London
EMEA IE 1 Europe/Dublin
EMEA DE 6 Europe/Berlin
EMEA FR 4 Europe/Paris
EMEA ES 2 Europe/Madrid Atlantic/Canary
EMEA PT 1 Europe/Lisbon
EMEA IT 3 Europe/Rome
EMEA NL 2 Europe/Amsterdam
EMEA BE 1 Europe/Brussels
EMEA LU 0.5 Europe/Luxembourg
EMEA CH 1 Europe/Zurich
EMEA AT 1 Europe/Vienna
EMEA PL 2 Europe/Warsaw
EMEA CZ 1 Europe/Prague
EMEA SK 0.5 Europe/Bratislava
EMEA HU 1 Europe/Budapest
EMEA RO 1 Europe/Bucharest
EMEA BG 0.5 Europe/Sofia
EMEA GR 1 Europe/Athens
EMEA HR 0.5 Europe/Zagreb
EMEA SI 0.5 Europe/Ljubljana
EMEA DK 1 Europe/Copenhagen
EMEA SE 1 Europe/Stockholm
EMEA NO 1 Europe/Oslo
EMEA FI 1 Europe/Helsinki
EMEA TR 1.5 Europe/Istanbul
EMEA IL 1 Asia/Jerusalem
EMEA SA 1.5 Asia/Riyadh
EMEA AE 1.5 Asia/Dubai
EMEA QA 0.5 Asia/Qatar
EMEA KW 0.5 Asia/Kuwait
EMEA BH 0.5 Asia/Bahrain
EMEA OM 0.5 Asia/Muscat
EMEA JO 0.5 Asia/Amman
EMEA EG 1 Africa/Cairo
EMEA MA 0.5 Africa/Casablanca
EMEA NG 1 Africa/Lagos
EMEA KE 0.5 Africa/Nairobi
EMEA ZA 1 Africa/Johannesburg
APAC IN 5 Asia/Kolkata
APAC CN 3 Asia/Shanghai
APAC JP 4 Asia/Tokyo
APAC KR 2 Asia/Seoul
APAC TW 1 Asia/Taipei
APAC SG 1 Asia/Singapore
APAC MY 1 Asia/Kuala_Lumpur
APAC TH 1 Asia/Bangkok
APAC ID 1 Asia/Jakarta Asia/Makassar
APAC PH 1 Asia/Manila
APAC AU 3 Australia/Sydney Australia/Brisbane
APAC NZ 1 Pacific/Auckland
`

func groups() (all []group) {
	for line := range strings.Lines(groupTable) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		share, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			panic("simulate: " + line) // of the table above
		}
		for _, zone := range f[3:] {
			all = append(all, group{f[0], f[1], zone, share / float64(len(f)-3)})
		}
	}
	return all
}

// countries returns every country, by name.
func countries() (names []string) {
	for _, g := range groups() {
		names = append(names, g.country)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
