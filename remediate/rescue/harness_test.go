package rescue_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

const (
	folder = "Windows/System32/drivers/CrowdStrike/"
	bad    = folder + "C-00000291-00000000-00000032.sys"
	good   = folder + "C-00000291-00000000-00000033.sys"
)

// channel is a file of channel 291 with content of its own.
func channel(own string) []byte {
	return append([]byte{0xAA, 0xAA, 0xAA, 0xAA, 1, 0, 0x23, 1}, own...)
}

func at(hour, minute int) time.Time { return time.Date(2024, 7, 19, hour, minute, 0, 0, time.UTC) }

// windows is a volume with Windows, the faulty file and the good one.
func windows() *volumetest.Volume {
	return volumetest.New().
		Add("Windows/System32/config/SYSTEM", at(1, 0), []byte("regf")).
		Add(bad, at(4, 9), channel("bad")).
		Add(good, at(5, 27), channel("good"))
}

// A volume is one of a machine in memory.
type volume struct {
	name string
	v    *volumetest.Volume
	err  error // of Open
	werr error // of Open for writing

	mu         sync.Mutex
	protectors []string // locked while there are any
	key        bitlocker.Key
	writes     int // times that it was opened for writing
}

func (v *volume) Name() string { return v.name }

func (v *volume) Protectors() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.protectors
}

func (v *volume) Unlock(_ context.Context, _ string, key bitlocker.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !key.Equal(v.key) {
		return errors.New("wrong key " + key.Reveal()) // what an implementation must not say
	}
	v.protectors = nil
	return nil
}

func (v *volume) Open(_ context.Context, write bool, _ wire.Allow) (playbooks.Volume, io.Closer, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.protectors) > 0 {
		return nil, nil, agent.ErrLocked
	}
	if write {
		v.writes++
	}
	if err := v.err; err != nil || (write && v.werr != nil) {
		return nil, nil, errors.Join(err, v.werr)
	}
	v.v.SetReadOnly(!write)
	return v.v, closer{v.v}, nil
}

type closer struct{ v *volumetest.Volume }

func (c closer) Close() error { c.v.SetReadOnly(true); return nil }

// A machine is a host in memory.
type machine struct {
	id      wire.Identity
	volumes []*volume
}

func (m *machine) Identity() (wire.Identity, error) { return m.id, nil }

func (m *machine) Volumes(context.Context) (vs []agent.Volume, _ error) {
	for _, v := range m.volumes {
		vs = append(vs, v)
	}
	return vs, nil
}

// escrow holds keys by host, in memory.
type escrow struct {
	filed []keytest.Filing
	mu    sync.Mutex
	err   error // instead of an answer
}

func (e *escrow) Lookup(_ context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return bitlocker.Key{}, e.err
	}
	for _, f := range e.filed {
		if f.ID == q.ID && !bitlocker.SameHost(f.Host, q.Host) {
			return bitlocker.Key{}, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: []string{f.Host}}
		}
		if f.ID == q.ID {
			return f.Key, nil
		}
	}
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

// A ledger remembers releases.
type ledger struct {
	mu       sync.Mutex
	releases []bitlocker.Release
	err      error
}

func (l *ledger) Record(_ context.Context, r bitlocker.Release) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releases = append(l.releases, r)
	return l.err
}

// A lab is a server, what it needs, and one host.
type lab struct {
	t       testing.TB
	cfg     rescue.Config
	s       *rescue.Server
	records *rescue.MemRecords
	escrow  *escrow
	ledger  *ledger
	logs    *safeBuffer
	target  remediate.Target
	pb      *playbooks.Playbook
	machine *machine
}

// A safeBuffer is what was logged so far.
type safeBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	waits map[string]chan struct{}
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for word, c := range b.waits {
		if bytes.Contains(p, []byte(word)) {
			close(c)
			delete(b.waits, word)
		}
	}
	return b.b.Write(p)
}

// wait returns when a line with the word was logged.
func (b *safeBuffer) wait(word string) {
	b.mu.Lock()
	if strings.Contains(b.b.String(), word) {
		b.mu.Unlock()
		return
	}
	c := make(chan struct{})
	b.waits = map[string]chan struct{}{word: c}
	b.mu.Unlock()
	<-c
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// filing returns a new key, filed under the host.
func filing(host string) keytest.Filing {
	src := rand.NewPCG(rand.Uint64(), rand.Uint64())
	return keytest.Filing{ID: keytest.NewKeyID(src), Host: host, Key: keytest.NewKey(src)}
}

const uuid = "4c4c4544-0042-3510-8054-b2c04f4a4b31"

// newLab starts a server; change may change its configuration.
func newLab(t testing.TB, change func(l *lab)) *lab {
	t.Helper()
	l := &lab{t: t, records: &rescue.MemRecords{}, escrow: &escrow{}, ledger: &ledger{}, logs: &safeBuffer{}}
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	l.pb = pb
	l.target = remediate.Target{Run: "r1", Attempt: 1,
		Host:  inventory.Host{Name: "pc1", UUID: uuid, Serial: "B5TK1"},
		Route: inventory.Route{Driver: "redfish"}}
	l.machine = &machine{id: wire.Identity{UUID: uuid, Serial: "B5TK1"}, volumes: []*volume{{name: "C", v: windows()}}}
	l.cfg = rescue.Config{
		Dir:         filepath.Join(t.TempDir(), "rescue"),
		AgentListen: "127.0.0.1:0", ImageListen: "127.0.0.1:0",
		Base: rescue.StubImage(), Records: l.records,
		Broker: &bitlocker.Broker{Sources: []bitlocker.Source{l.escrow}, Ledger: l.ledger},
		Poll:   20 * time.Millisecond,
		Log:    slog.New(slog.NewTextHandler(l.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(l)
	}
	l.start()
	t.Cleanup(func() { l.s.Close() })
	return l
}

// start starts the server, again at the same addresses if it was started before.
func (l *lab) start() {
	l.t.Helper()
	s, err := rescue.Start(context.Background(), l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.s = s
	l.cfg.AgentListen = strings.TrimPrefix(s.AgentURL(), "https://")
	l.cfg.ImageListen = strings.TrimPrefix(s.ImageURL(), "http://")
}

// lock locks a volume with a new key, and returns the key and the id of its protector.
func (l *lab) lock(v *volume) keytest.Filing {
	f := filing(l.target.Host.Name)
	v.protectors, v.key = append(v.protectors, f.ID.String()), f.Key
	return f
}

// boot fetches the target's image as a BMC does, and returns its configuration.
func (l *lab) boot() wire.Config {
	l.t.Helper()
	img, err := l.s.Image(l.t.Context(), l.target)
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.Get(img.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	cfg, err := agent.ConfigFromImage(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return cfg
}

var quick = agent.Options{Version: "test", Pause: 5 * time.Millisecond, Patience: 10 * time.Second}

// An ended agent has said its last.
type ended struct {
	report wire.Report
	err    error
}

// goAgent runs the agent on the lab's machine.
func (l *lab) goAgent(cfg wire.Config) <-chan ended {
	done := make(chan ended, 1)
	go func() {
		o := quick
		o.Log = l.cfg.Log // where a secret would be found
		r, err := agent.Run(l.t.Context(), l.machine, cfg, o)
		done <- ended{r, err}
	}()
	return done
}

// repair runs the whole conversation.
func (l *lab) repair() (remediate.Report, error, ended) {
	l.t.Helper()
	done := l.goAgent(l.boot())
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	rep, err := l.s.Repair(ctx, l.target, l.pb)
	return rep, err, <-done
}

func (l *lab) has(name string) bool { return l.machine.volumes[0].v.Has(name) }

// wantErr checks that an error says all of the words.
func wantErr(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v does not say %q", err, w)
		}
	}
}

func final(err error) bool {
	var f *remediate.FinalError
	return errors.As(err, &f)
}
