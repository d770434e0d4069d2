package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/bundle"
	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv"
)

var made = time.Date(2024, 7, 18, 22, 0, 0, 0, time.UTC)

// A pair of persons of each kind, and who signs.
type people struct {
	first, second []*age.X25519Identity
	signer        ed25519.PrivateKey
}

func newPeople(t testing.TB) people {
	t.Helper()
	var p people
	for i := range 4 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			p.first = append(p.first, id)
		} else {
			p.second = append(p.second, id)
		}
	}
	var err error
	if _, p.signer, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p people) plan() bundle.Plan {
	plan := bundle.Plan{Site: "SYD", Made: made, Expires: made.Add(72 * time.Hour), Signer: p.signer}
	for i := range p.first {
		plan.First = append(plan.First, p.first[i].Recipient().String())
		plan.Second = append(plan.Second, p.second[i].Recipient().String())
	}
	return plan
}

// opening has the second of the first persons and the first of the second.
func (p people) opening() bundle.Opening {
	return bundle.Opening{Signer: p.signer.Public().(ed25519.PublicKey), Now: made.Add(6 * time.Hour),
		First: []age.Identity{p.first[1]}, Second: []age.Identity{p.second[0]}}
}

func rows(keys []keytest.Filing) (all []bundle.Row) {
	for _, k := range keys {
		all = append(all, bundle.Row{ID: k.ID, Host: k.Host, Key: k.Key, From: "directory"})
	}
	return all
}

func some(n int) (keys []keytest.Filing) {
	r := rand.NewPCG(8, 8)
	for i := range n {
		keys = append(keys, keytest.Filing{ID: keytest.NewKeyID(r), Host: fmt.Sprintf("PC%d", i), Key: keytest.NewKey(r)})
	}
	return keys
}

func write(t testing.TB, plan bundle.Plan, keys []keytest.Filing) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := bundle.Make(&b, plan, rows(keys)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSuite(t *testing.T) {
	keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
		p := newPeople(t)
		path := filepath.Join(t.TempDir(), "syd.bundle")
		if err := os.WriteFile(path, write(t, p.plan(), keys), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Open(path, p.opening())
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestHeader(t *testing.T) {
	p, keys := newPeople(t), some(3)
	file := write(t, p.plan(), keys)
	h, err := bundle.Inspect(bytes.NewReader(file), p.opening().Signer)
	if err != nil || h.Site != "SYD" || h.Keys != 3 || h.From["directory"] != 3 || !h.Made.Equal(made) || !h.Expires.Equal(made.Add(72*time.Hour)) {
		t.Errorf("header %+v, %v", h, err)
	}
	for _, k := range keys {
		if keytest.Leaks(k.Key, string(file)) || strings.Contains(string(file), k.ID.String()) {
			t.Error("the file shows a key or an id in clear")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	p, keys := newPeople(t), some(3)
	stranger := newPeople(t)
	file := write(t, p.plan(), keys)
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	var tampered *bundle.TamperedError
	var expired *bundle.ExpiredError
	var person *bundle.PersonError
	for name, test := range map[string]struct {
		change func(*bundle.Opening)
		damage func([]byte) []byte
		as     any
		want   string
	}{
		"expired":             {func(o *bundle.Opening) { o.Now = made.Add(73 * time.Hour) }, nil, &expired, "the bundle of site SYD expired on 2024-07-21T22:00:00Z"},
		"a clock that is off": {func(o *bundle.Opening) { o.Now = made.Add(-time.Hour) }, nil, nil, "in the future: the clock"},
		"no clock":            {func(o *bundle.Opening) { o.Now = time.Time{} }, nil, nil, "without the time"},
		"the first alone":     {func(o *bundle.Opening) { o.Second = nil }, nil, &person, "for the second one"},
		"the second alone":    {func(o *bundle.Opening) { o.First = nil }, nil, &person, "for the first one"},
		"one person twice":    {func(o *bundle.Opening) { o.Second = o.First }, nil, &person, "for the second one"},
		"two first persons":   {func(o *bundle.Opening) { o.Second = []age.Identity{p.first[0]} }, nil, &person, "for the second one"},
		"strangers":           {func(o *bundle.Opening) { o.First = stranger.opening().First }, nil, &person, "for the first one"},
		"another signer":      {func(o *bundle.Opening) { o.Signer = stranger.opening().Signer }, nil, &tampered, "somebody else has signed it"},
		"no signer":           {func(o *bundle.Opening) { o.Signer = nil }, nil, nil, "nobody knows who made it"},
		"header changed":      {nil, func(b []byte) []byte { return bytes.Replace(b, []byte(`"SYD"`), []byte(`"MEL"`), 1) }, &tampered, "header was changed"},
		"later expiry":        {nil, func(b []byte) []byte { return bytes.Replace(b, []byte(`2024-07-21`), []byte(`2034-07-21`), 1) }, &tampered, "header was changed"},
		"body changed":        {nil, flip(-1), &tampered, "body was changed"},
		"body cut off":        {nil, func(b []byte) []byte { return b[:len(b)-1] }, &tampered, "body was changed or cut off"},
		"header alone":        {nil, func(b []byte) []byte { return b[:40] }, nil, "this is no bundle"},
		"another file":        {nil, func([]byte) []byte { return []byte("host,key_id,recovery_key\n") }, nil, "this is no bundle"},
		"nothing":             {nil, func([]byte) []byte { return nil }, nil, "this is no bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			o, data := p.opening(), bytes.Clone(file)
			if test.change != nil {
				test.change(&o)
			}
			if test.damage != nil {
				data = test.damage(data)
			}
			b, err := bundle.Read("syd.bundle", bytes.NewReader(data), o)
			if b != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "cannot open bundle syd.bundle: ") {
				t.Fatalf("error %v, want %s", err, test.want)
			}
			if test.as != nil && !errors.As(err, test.as) {
				t.Errorf("error %T is not of its type", errors.Unwrap(err))
			}
		})
	}
	t.Run("expired, and opened all the same", func(t *testing.T) {
		o := p.opening()
		o.Now, o.Expired = made.Add(1000*time.Hour), true
		if _, err := bundle.Read("syd.bundle", bytes.NewReader(file), o); err != nil {
			t.Error(err)
		}
	})
}

func TestMakeRefuses(t *testing.T) {
	p, keys := newPeople(t), some(2)
	for name, test := range map[string]struct {
		change func(*bundle.Plan)
		rows   []bundle.Row
		want   string
	}{
		"one list":         {func(p *bundle.Plan) { p.Second = nil }, rows(keys), "there are no second persons"},
		"one in both":      {func(p *bundle.Plan) { p.Second = append(p.Second, " "+p.First[0]) }, rows(keys), "could open the bundle alone"},
		"no recipient":     {func(p *bundle.Plan) { p.First = []string{"alice"} }, rows(keys), "one of the first persons is no age recipient"},
		"secret as public": {func(q *bundle.Plan) { q.First = []string{p.first[0].String()} }, rows(keys), "one of the first persons is no age recipient"},
		"no signer":        {func(p *bundle.Plan) { p.Signer = nil }, rows(keys), "no key to sign"},
		"no site":          {func(p *bundle.Plan) { p.Site = "" }, rows(keys), "of no site"},
		"no expiry":        {func(p *bundle.Plan) { p.Expires = time.Time{} }, rows(keys), "expire before"},
		"empty":            {nil, nil, "no keys"},
		"no id":            {nil, []bundle.Row{{Host: "PC1", Key: keys[0].Key}}, `a key of host "PC1" has no id`},
		"no key":           {nil, []bundle.Row{{ID: keys[0].ID}}, "has no key"},
		"two keys":         {nil, []bundle.Row{{ID: keys[0].ID, Key: keys[0].Key}, {ID: keys[0].ID, Key: keys[1].Key}}, "has two different keys"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := p.plan()
			if test.change != nil {
				test.change(&plan)
			}
			var out bytes.Buffer
			_, err := bundle.Make(&out, plan, test.rows)
			if err == nil || !strings.Contains(err.Error(), test.want) || out.Len() > 0 {
				t.Fatalf("error %v and %d bytes, want %s", err, out.Len(), test.want)
			}
			if keytest.Leaks(keys[0].Key, err.Error()) || strings.Contains(err.Error(), "AGE-SECRET") {
				t.Error("the error shows a secret")
			}
		})
	}
}

func TestClonedDisk(t *testing.T) {
	p, k := newPeople(t), some(1)[0]
	clone := k
	clone.Host = "PC-CLONE"
	b, err := bundle.Read("b", bytes.NewReader(write(t, p.plan(), []keytest.Filing{k, clone})), p.opening())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"PC0", "pc-clone"} {
		if key, err := b.Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: host}); err != nil || !key.Equal(k.Key) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if entries, err := b.Index(t.Context(), ""); err != nil || len(entries) != 2 {
		t.Errorf("index %v, %v", entries, err)
	}
}

// TestAge opens a bundle as its package comment says, with a program that nobody here wrote.
func TestAge(t *testing.T) {
	testenv.Need(t, "age", "tail", "sh")
	p, keys, dir := newPeople(t), some(3), t.TempDir()
	for name, text := range map[string]string{"syd.bundle": string(write(t, p.plan(), keys)), "first.txt": p.first[0].String(), "second.txt": p.second[1].String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", "tail -n +4 syd.bundle | age -d -i first.txt | age -d -i second.txt")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); found++ {
		var row struct{ ID, Host, Key string }
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.ID.String() == row.ID && (row.Host != k.Host || row.Key != k.Key.Reveal()) {
				t.Errorf("%s: not the row that was put in", row.ID)
			}
		}
	}
	if found != len(keys) {
		t.Errorf("%d rows, want %d", found, len(keys))
	}
}

func TestKeys(t *testing.T) {
	p, dir := newPeople(t), t.TempDir()
	private, err := x509.MarshalPKCS8PrivateKey(p.signer)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(p.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) secret.Ref {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return secret.Ref("file:" + filepath.Join(dir, name))
	}
	key, err := bundle.SigningKey(t.Context(), file("sign.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))))
	if err != nil || !key.Equal(p.signer) {
		t.Errorf("not the signing key: %v", err)
	}
	pub, err := bundle.ParseVerifyKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	if err != nil || !pub.Equal(p.signer.Public()) {
		t.Errorf("not the public key: %v", err)
	}
	ids, err := bundle.Identities(t.Context(), file("id.txt", "# created: 2024\n"+p.first[0].String()+"\n"))
	if err != nil || len(ids) != 1 {
		t.Errorf("%d identities, %v", len(ids), err)
	}
	broken := strings.Replace(p.first[0].String(), "1", "1Q", 1)
	if _, err := bundle.Identities(t.Context(), file("broken.txt", broken)); err == nil || strings.Contains(err.Error(), broken[:30]) {
		t.Errorf("error %v, want one that does not show the identity", err)
	}
	if _, err := bundle.SigningKey(t.Context(), file("broken.pem", broken)); err == nil {
		t.Error("that is no signing key")
	}
	if _, err := bundle.ParseVerifyKey([]byte(broken)); err == nil {
		t.Error("that is no public key")
	}
}

// FuzzRead: nothing that was not signed is ever opened.
func FuzzRead(f *testing.F) {
	p := newPeople(f)
	good := write(f, p.plan(), some(2))
	f.Add(good)
	f.Add([]byte("unbrick-bundle/1\n{}\n\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := bundle.Read("x", bytes.NewReader(data), p.opening())
		if err == nil && (b == nil || !bytes.Equal(data, good)) {
			t.Error("opened what nobody has signed")
		}
	})
}

// BenchmarkOpen is a site with 200,000 keys, far more than any should have.
func BenchmarkOpen(b *testing.B) {
	p := newPeople(b)
	file := write(b, p.plan(), some(200_000))
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := bundle.Read("x", bytes.NewReader(file), p.opening()); err != nil {
			b.Fatal(err)
		}
	}
}
