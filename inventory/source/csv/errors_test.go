package csv_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
)

// TestValues: one value in one column, and what is said of it. The name stands in line 2.
func TestValues(t *testing.T) {
	const isbad, isaside = "bad 2: column %q: ", "warning 2: column %q: "
	for _, tc := range []struct{ column, value, want string }{
		{"timezone", "CEST", isbad + `"CEST": not a time zone (want an IANA name such as Europe/Berlin)`},
		{"country", "Germany", isbad + `"Germany": not a country code (want two letters of ISO 3166-1, such as DE)`},
		{"country", "UK", isbad + `"UK": not a country code (want GB)`},
		{"mac", "52:54:00:12:34:56;52:54:00:12:34", isbad + `"52:54:00:12:34:56;52:54:00:12:34": not a MAC address (want six bytes, such as 52:54:00:12:34:56)`},
		{"mac", "00:00:00:00:00:00", isaside + `"00:00:00:00:00:00": the MAC address of no adapter (want the adapter's own, or nothing)`},
		{"uuid", "4c4c4544", isbad + `"4c4c4544": not a UUID (want 32 hexadecimal digits, such as 4c4c4544-0044-3510-8052-b4c04f4d3132)`},
		{"uuid", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", isaside + `"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF": what firmware shows where there is no UUID (want the host's own SMBIOS UUID, or nothing)`},
		{"uuid", "03000200-0400-0500-0006-000700080009", isaside + `"03000200-0400-0500-0006-000700080009": what firmware shows where there is no UUID (want the host's own SMBIOS UUID, or nothing)`},
		{"serial", "To Be Filled By O.E.M.", isaside + `"To Be Filled By O.E.M.": what firmware shows where there is no serial number (want the host's own, or nothing)`},
		{"serial", "None", isaside + `"None": what firmware shows where there is no serial number (want the host's own, or nothing)`},
		{"serial", "0", isaside + `"0": what firmware shows where there is no serial number (want the host's own, or nothing)`},
		{"tier", "urgent", isbad + `"urgent": not a tier (want dependency, critical, normal or low)`},
		{"opens", "8 am", isbad + `"8 am": not an opening hour (want "08:00", "Mon-Sat 07:30", "07:30 holidays" or "24x7")`},
		{"redfish", "ftp://10.0.0.1", isbad + `"ftp://10.0.0.1": not an address (want https://host[:port] or host[:port])`},
		{"redfish", "10.0.0.256", isbad + `"10.0.0.256": not an address (want a name or IP address, with :port if need be)`},
		{"redfish", "https://10.0.0.1:99999", isbad + `"https://10.0.0.1:99999": not an address (want https://host[:port] or host[:port])`},
		{"ipmi", "bmc one", isbad + `"bmc one": not an address (want a name or IP address, with :port if need be)`},
		{"netboot", "52:54:00:12:34:56", isbad + `"52:54:00:12:34:56": not a controller (want auto for the host's own, or one such as ipmi:10.1.2.3)`},
		{"restart", "often", isbad + `"often": not a controller (want auto for the host's own, or one such as ipmi:10.1.2.3)`},
		{"address", "a b:0", isbad + `"a b:0": not an address (want a name or IP address, with :port if need be)`},
		{"name", "a b", isbad + `"a b": not a host name (want a NetBIOS or DNS name: no spaces, none of \ / : * ? " < > |, no dot or hyphen in front)`},
		{"site", "SYD\x1b[2J", isbad + `"SYD\x1b[2J": holds a character that cannot be shown ('\x1b') (want text on one line)`},
		{"site", "M\xfcnchen", isbad + `not UTF-8 (want text in UTF-8; save the file as "CSV UTF-8")`},
		{"Comment", strings.Repeat("x", 9000) + "\x00", isbad + `a NUL byte (want text in UTF-8; save the file as "CSV UTF-8")`},

		{"redfish", "https://10.0.0.1", ""}, {"redfish", "http://bmc1:8000/", ""}, {"redfish", "bmc1", ""}, {"redfish", "10.0.0.1:443", ""},
		{"redfish", "[fe80::1]:443", ""}, {"redfish", "fe80::1", ""}, {"redfish", "n/a", ""}, {"redfish", "None", ""},
		{"ec2", "i-0123456789abcdef0", ""}, {"vsphere", "vc1/Web Server 01", ""}, {"manual", "Kim, desk 4", ""},
		{"netboot", "auto", ""}, {"restart", "ipmi:10.1.2.3", ""}, {"timezone", "UTC", ""}, {"mac", "-", ""}, {"Comment", "two\nlines", ""},
		{"address", "10.0.0.7", ""}, {"address", "pc7:5986", ""}, {"opens", "24x7", ""}, {"tier", "LOW", ""},
	} {
		t.Run(tc.column+"="+tc.value[:min(len(tc.value), 20)], func(t *testing.T) {
			content := "name," + tc.column + "\npc1,\"" + strings.ReplaceAll(tc.value, `"`, `""`) + "\"\n"
			if tc.column == "name" {
				content = "name\n" + tc.value + "\n"
			}
			src := file(t, content+strings.Repeat("x", min(len(tc.value), 1))) // a broken row after it must not matter
			if len(tc.value) > 8000 {                                          // a NUL within the first 64 kB is a binary file
				src = file(t, "name,"+tc.column+"\n"+strings.Repeat("\n", 64<<10)+strings.SplitAfterN(content, "\n", 2)[1])
			}
			hosts, rows, err := read(t, src)
			if err != nil {
				t.Fatal(err)
			}
			rows = slices.DeleteFunc(rows, func(s string) bool { return strings.HasPrefix(s, "bad 3:") || strings.HasPrefix(s, "bad 4:") })
			want := tc.want
			if want != "" {
				want = fmt.Sprintf(want, tc.column)
			}
			got := strings.Join(rows, "\n")
			if len(tc.value) > 8000 {
				want = strings.Replace(want, "bad 2:", fmt.Sprintf("bad %d:", 2+64<<10), 1)
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if bad := strings.HasPrefix(want, "bad"); bad == (slices.ContainsFunc(hosts, func(h inventory.Host) bool { return h.Name == "pc1" })) {
				t.Errorf("a bad row is no host, a good one is: %d hosts", len(hosts))
			}
		})
	}
}

// TestAllAtOnce: every bad value of every row, with the line as an editor counts it.
func TestAllAtOnce(t *testing.T) {
	_, rows, err := read(t, file(t, "sep=;\r\n\"Host Name\";\"Time\nZone\";Tier;Note\r\n"+ // lines 1 to 3
		"a;Nowhere;urgent;\"one\r\ntwo\r\nthree\"\r\n"+ // 4 to 6
		"\r\n"+ // 7
		"b;UTC;low\r\n"+ // 8
		"c;UTC;low;x;y\r\n"+ // 9
		"d;UTC;low;\"x\"y\r\n"+ // 10
		"e;UTC;lo\"w;x\r\n"+ // 11
		"f;UTC;high;x\r\n"+ // 12
		"g;UTC;low;\"never closed\r\nh;UTC;low;x\r\n")) // 13 and 14
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`bad 4: column "Time\nZone": "Nowhere": not a time zone (want an IANA name such as Europe/Berlin)`,
		`bad 4: column "Tier": "urgent": not a tier (want dependency, critical, normal or low)`,
		`bad 8: 3 fields (want 4, as the header has; a ';' inside a value needs quotes around it)`,
		`bad 9: 5 fields (want 4, as the header has; a ';' inside a value needs quotes around it)`,
		`bad 10: a quote is not closed, or something follows where it closes (want a field in quotes, with quotes inside it doubled: "19"" rack")`,
		`bad 11: a quote in a field that does not begin with one (want a field in quotes, with quotes inside it doubled: "19"" rack")`,
		`bad 12: column "Tier": "high": not a tier (want dependency, critical, normal or low)`,
		`bad 13: a quote is not closed, or something follows where it closes; lines 13 to 14 were not read (want a field in quotes, with quotes inside it doubled: "19"" rack")`,
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}

// TestFiles: files that cannot be read as a whole.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		content string
		src     csv.Source
		want    string
	}{
		"missing":       {src: csv.Source{Path: filepath.Join(dir, "none.csv")}, want: "none.csv: no such file"},
		"directory":     {src: csv.Source{Path: dir}, want: "it is a directory"},
		"empty":         {content: "\ufeff", want: "it is empty"},
		"header only":   {content: "name,site\n", want: "a header and no hosts"},
		"no name":       {content: "id,site\n1,SYD\n", want: `no column "name"; the columns are "id", "site". Say which one it is: --map name=HEADER`},
		"no header":     {content: "SYD-PC-01\n", want: `no column "name", and only one column, "SYD-PC-01"`},
		"name twice":    {content: "name,NAME\na,b\n", want: `columns 1 and 2 are both "NAME"; keep one`},
		"broken header": {content: "na\"me,b\na,b\n", want: "line 1: the header is broken: a quote in a field"},
		"xlsx":          {content: "PK\x03\x04xl/worksheets", want: `Excel file; save it as "CSV UTF-8"`},
		"xls":           {content: "\xd0\xcf\x11\xe0\xa1\xb1", want: `Excel file; save it as "CSV UTF-8"`},
		"NUL":           {content: "name\n\x00\n", want: "not text (NUL at byte 5)"},
		"UTF-16 alone":  {content: "n\x00a\x00m\x00e\x00\n\x00", want: "not text (NUL at byte 1)"},
		"endless quote": {content: "name,x\na,\"" + strings.Repeat("b,c\n", 1<<20), want: "after line 1: a row is longer than 1048576 bytes: a quote is not closed"},
		"map to none":   {content: "id,site\na,b\n", src: csv.Source{Map: map[string]string{"name": "Host"}}, want: `no column "Host" for name; the columns are "id", "site"`},
		"mapped twice":  {content: "id,site\na,b\n", src: csv.Source{Map: map[string]string{"name": "id", "serial": "ID"}}, want: `column "ID" is mapped twice: to name and serial`},
		"map of none":   {content: "id,site\na,b\n", src: csv.Source{Map: map[string]string{"nome": "id"}}, want: `no field "nome" to map; the fields are address, amt, `},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.content != "" {
				tc.src.Path = file(t, tc.content).Path
			}
			hosts, rows, err := read(t, tc.src)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "cannot read inventory") {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if len(hosts)+len(rows) > 0 {
				t.Errorf("and %d hosts, rows %q", len(hosts), rows)
			}
		})
	}
}

// TestSecrets: what may be a secret is refused, and not repeated anywhere.
func TestSecrets(t *testing.T) {
	const canary = "hunter2"
	const key = "123456-234567-345678-456789-567890-678901-789012-890123"
	for name, tc := range map[string]struct{ content, want string }{
		"password column":   {"name,BMC Password\na," + canary + "\n", `column "BMC Password" looks like a secret`},
		"mapped column":     {"name,Admin_PWD\na," + canary + "\n", `column "Admin_PWD" looks like a secret`},
		"LAPS of AD":        {"name,ms-Mcs-AdmPwd\na," + canary + "\n", "looks like a secret"},
		"recovery keys":     {"name,BitLocker Recovery Key\na," + canary + "\n", "looks like a secret"},
		"URL with login":    {"name,redfish\na,https://root:" + canary + "@10.0.0.1\n", "holds a user name or password"},
		"broken URL":        {"name,redfish\na,https://root:" + canary + "%zz@10.0.0.1\n", "holds a user name or password"},
		"address and login": {"name,winrm\na,root:" + canary + "@10.0.0.1\n", "holds a user name or password"},
		"query":             {"name,amt\na,https://10.0.0.1/?password=" + canary + "\n", "holds a user name or password"},
		"login as address":  {"name,address\na,root:" + canary + "@10.0.0.1\n", "not an address"},
		"login as label":    {"name,tier\na,https://root:" + canary + "@10.0.0.1\n", "not a tier"},
		"key in a note":     {"name,Note\na,the key is " + key + " I think\n", "holds a BitLocker recovery key"},
	} {
		t.Run(name, func(t *testing.T) {
			hosts, rows, err := read(t, file(t, tc.content))
			all := strings.Join(rows, "\n")
			if err != nil {
				all += err.Error()
			}
			if len(hosts) > 0 || !strings.Contains(all, tc.want) {
				t.Errorf("got %d hosts, %s; want %s", len(hosts), all, tc.want)
			}
			if strings.Contains(all, canary) || strings.Contains(all, key) {
				t.Error("the secret is repeated")
			}
		})
	}
	for _, harmless := range []string{"PasswordLastSet", "pwdLastSet", "BitLocker Recovery Key ID", "Department secretary", "Bootstrap token escrowed"} {
		if hosts, _, err := read(t, file(t, "name,"+harmless+"\na,x\n")); err != nil || hosts[0].Labels[harmless] != "x" {
			t.Errorf("%s: %v", harmless, err)
		}
	}
}

func TestMap(t *testing.T) {
	src := file(t, "Name,Asset,BMC IP,Owner\nfriendly,PC1,10.0.0.1,me\n")
	m, err := csv.ParseMap([]string{"name=asset", "Redfish=BMC IP"})
	if err != nil {
		t.Fatal(err)
	}
	src.Map = m
	hosts, rows, err := read(t, src)
	if err != nil || len(rows) > 0 || len(hosts) != 1 {
		t.Fatalf("%d hosts, %q, %v", len(hosts), rows, err)
	}
	b, _ := json.Marshal(hosts[0])
	const want = `{"name":"PC1","tier":"normal","routes":[{"driver":"redfish","address":"10.0.0.1"}],"labels":{"Name":"friendly","Owner":"me"}}`
	if string(b) != want {
		t.Errorf("got %s\nwant %s", b, want)
	}
	for pair, want := range map[string]string{
		"Hostname": "write field=Header", "name=": "write field=Header", "nome=x": `no field "nome"`,
	} {
		if _, err := csv.ParseMap([]string{pair}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pair, err)
		}
	}
	if _, err := csv.ParseMap([]string{"name=a", "name=b"}); err == nil {
		t.Error("a field that is mapped twice")
	}
}

// TestBMCAsAddress: where the BMC answers says nothing of Windows.
func TestBMCAsAddress(t *testing.T) {
	hosts, rows, err := read(t, file(t, "name,ip,redfish\na,10.0.0.1,https://10.0.0.1:443/\nb,127.0.0.1:81,https://127.0.0.1:82\n"))
	if err != nil || len(hosts) != 2 || hosts[0].Address != "" || hosts[1].Address != "127.0.0.1:81" {
		t.Errorf("%+v, %v", hosts, err)
	}
	if want := `warning 2: column "ip": "10.0.0.1": the address of the BMC, not of Windows (want where Windows answers, or nothing)`; len(rows) != 1 || rows[0] != want {
		t.Errorf("got %q", rows)
	}
}

// FuzzSource: whatever the file, reading it ends, repeats itself, and gives hosts that have a
// name and rows that say where and why.
func FuzzSource(f *testing.F) {
	for _, s := range []string{
		"name,serial,uuid,mac,redfish,timezone,opens\na,s,4c4c4544-0044-3510-8052-b4c04f4d3132,52:54:00:12:34:56,https://b,Europe/Berlin,08:00\n",
		"sep=;\nname;x\na;\"b\nc\"\n", "#TYPE x\r\n\"Name\"\r\n\"a\"\r\n", "\ufeffname\ta\nx\ty\n", "\xff\xfen\x00a\x00m\x00e\x00\n\x00a\x00\n\x00",
		"name,a\n\"x", "name\n\"a\"b\nc\n", "name,,\na,b,c\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "f.csv")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		src := csv.Source{Path: path}
		hosts, rows, err := read(t, src)
		again, rows2, err2 := read(t, src)
		if len(hosts) != len(again) || !slices.Equal(rows, rows2) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Errorf("first %d, %q, %v, then %d, %q, %v", len(hosts), rows, err, len(again), rows2, err2)
		}
		for _, h := range hosts {
			if _, err := inventory.ParseName(h.Name); err != nil {
				t.Errorf("%q is no name: %v", h.Name, err)
			}
		}
		if len(hosts) > 1+bytes.Count(content, []byte("\n")) {
			t.Errorf("%d hosts in a file of %d bytes", len(hosts), len(content))
		}
		for _, r := range rows {
			if !strings.Contains(r, "(want ") {
				t.Errorf("%q does not say what would be right", r)
			}
		}
	})
}
