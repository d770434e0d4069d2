package winrm

import (
	"bytes"
	"encoding/binary"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// FuzzUnpack: what a sealed message carries comes out as it went in, whatever bytes it is, and
// nothing else is taken for one.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("text"), []byte("--Encrypted Boundary\r\n"), false)
	f.Add([]byte(partBody), []byte(partEnd), true)
	f.Add([]byte{}, []byte("Length=-1\r\n"), false)
	f.Fuzz(func(t *testing.T, text, other []byte, short bool) {
		sig := bytes.Repeat([]byte{7}, sigLength)
		end := partEnd
		if short { // some hosts leave out the last line's end
			end = end[:len(end)-2]
		}
		body := []byte(partHead + strconv.Itoa(len(text)) + partBody)
		body = append(append(append(binary.LittleEndian.AppendUint32(body, sigLength), sig...), text...), end...)
		gotSig, got, err := unpack(sealedType, body)
		if err != nil || !bytes.Equal(got, text) || !bytes.Equal(gotSig, sig) {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
		if _, _, err := unpack("application/soap+xml", body); err == nil {
			t.Fatal("a plain answer was taken for a sealed one")
		}
		if s, _, err := unpack(sealedType, other); err == nil && len(s) != sigLength {
			t.Fatalf("a signature of %d bytes", len(s))
		}
	})
}

// FuzzFault: whatever a host says, an error is one line, and not endless.
func FuzzFault(f *testing.F) {
	f.Add([]byte(`<s:Envelope xmlns:s="x"><s:Body><s:Fault><s:Reason><s:Text>a` + "\n" + `b</s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f="y" Code="2150858793"/></s:Detail></s:Fault></s:Body></s:Envelope>`))
	f.Add([]byte(`<Envelope><Body><Fault/></Body></Envelope>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e := fault(b); e != nil && (strings.ContainsAny(e.Error(), "\r\n\x00") || len(e.Error()) > 500 || e.Code == "") {
			t.Fatalf("%q", e.Error())
		}
	})
}

// FuzzAddress: an address that is taken is one that can be connected to, and stays itself.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"h1", "https://[::1]:5986/wsman", "http://h1", "h1:5985", "::1"} {
		f.Add(s)
	}
	f.Add("0]0")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err != nil {
			return
		}
		u, err := url.Parse(a.url())
		if err != nil {
			t.Fatalf("%q is %+v: %v", s, a, err)
		}
		b, err := parseAddress(u.Scheme + "://" + u.Host)
		if err != nil || b != a || u.Port() == "" {
			t.Fatalf("%q is %+v, and then %+v, %v", s, a, b, err)
		}
	})
}
