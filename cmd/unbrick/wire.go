package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/netboot"
	"unbrick/remediate/probe"
	"unbrick/remediate/probe/falcon"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
	"unbrick/remediate/tlspin"
)

// A kit is all that a run needs, joined. Close lets go of it.
type kit struct {
	cfg      *config
	store    *engine.Store
	playbook *playbooks.Playbook
	broker   *bitlocker.Broker
	ledger   *bitlocker.Ledger // of the broker
	server   *rescue.Server
	boot     *netboot.Server // nil: no host starts from the network
	noBoot   string          // why, where it was asked for
	drivers  map[string]remediate.Driver
	prober   remediate.Prober
	voucher  remediate.Voucher // nil: no credential for WinRM
	witness  remediate.Witness // nil: no console of a sensor
	log      *slog.Logger
	closers  []io.Closer
}

func (k *kit) Close() error {
	var errs []error
	for i := len(k.closers) - 1; i >= 0; i-- {
		errs = append(errs, k.closers[i].Close())
	}
	return errors.Join(errs...)
}

// assemble opens everything, in the order of what is most often wrong. On an error nothing
// stays open, and no host was touched.
func assemble(c *cli.Context, cfg *config, log *slog.Logger) (k *kit, err error) {
	k = &kit{cfg: cfg, log: log, prober: probe.New(probe.Options{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if k.playbook, err = openPlaybook(cfg.Playbook); err != nil {
		return k, err
	}
	base, err := k.openImage()
	if err != nil {
		return k, err
	}
	sources, err := openKeys(c, cfg)
	if err != nil {
		return k, err
	}
	for _, s := range sources {
		if closer, ok := s.(io.Closer); ok {
			k.closers = append(k.closers, closer)
		}
	}
	if k.store, err = openStore(c, cfg); err != nil {
		return k, err
	}
	k.closers = append(k.closers, k.store)
	if len(sources) > 0 {
		ledger, err := bitlocker.OpenLedger(cfg.Ledger)
		if err != nil {
			return k, hinted(err, "no key leaves without a ledger; name another with ledger: in the configuration")
		}
		k.closers = append(k.closers, ledger)
		k.ledger = ledger
		k.broker = &bitlocker.Broker{Sources: sources, Ledger: ledger, FirstWins: cfg.FirstWins}
	}
	pins, err := k.openPins(c)
	if err != nil {
		return k, err
	}
	if err := k.serve(c.Context, base); err != nil {
		return k, err
	}
	if k.drivers, err = k.listDrivers(pins); err != nil {
		return k, err
	}
	return k, k.openProofs(pins)
}

// openProofs opens what shows, beside the network, whether a Windows is up.
func (k *kit) openProofs(pins tlspin.Records) error {
	s, err := newShell(k.cfg, pins)
	if err != nil {
		return err
	}
	if s != nil {
		k.voucher = s
	}
	f := k.cfg.Falcon
	if f.ClientID == "" {
		return nil
	}
	console, err := falcon.New(falcon.Config{URL: f.URL, CA: f.CA, ClientID: f.ClientID, Secret: f.Secret})
	k.witness = console
	return hinted(err, "falcon: of unbrick.yaml is described in the README")
}

// openPins returns where the certificates of BMCs are remembered: in the run's state, also
// for a host that is fixed by hand and has a state of its own.
func (k *kit) openPins(c *cli.Context) (tlspin.Records, error) {
	if k.cfg.pins == "" || k.cfg.pins == k.cfg.State {
		return k.store, nil
	}
	store, err := engine.Open(c.Context, k.cfg.pins, k.log)
	if err != nil {
		return nil, hinted(err, "--state names another place")
	}
	k.closers = append(k.closers, store)
	return store, nil
}

// serve starts the rescue server.
func (k *kit) serve(ctx context.Context, base rescue.Base) error {
	r := k.cfg.Rescue
	var err error
	k.server, err = rescue.Start(ctx, rescue.Config{
		Dir: r.Dir, AgentListen: r.Listen, ImageListen: r.ImageListen, AgentURL: r.URL, ImageURL: r.ImageURL,
		Base: base, Netboot: netbootFiles(k.cfg.Image), Agent: agentFile(k.cfg.Image), Broker: k.broker, Records: k.store, MaxStreams: r.Streams, Log: k.log,
		Terms: k.terms, Arrived: k.arrived,
	})
	if err != nil {
		return hinted(err, "another run on this machine may hold the port; --listen and --image-listen give others (rescue.listen and rescue.image_listen in unbrick.yaml)")
	}
	k.closers = append(k.closers, k.server)
	return k.serveNetboot(ctx)
}

// terms says what the fixer may do to a host. One is started in Safe Mode only if WinRM can go
// on there: by its inventory, on the ladder, with this playbook; not twice; and not where a
// person with a stick would have to come again if it cannot.
func (k *kit) terms(t remediate.Target) rescue.Terms {
	a := k.cfg.Allow
	safe := a.SafeMode && !t.Returned && t.Route.Driver != remediate.Manual &&
		slices.ContainsFunc(k.ladder().Ways(t.Host), func(r inventory.Route) bool { return r.Driver == "winrm" })
	return rescue.Terms{Allow: wire.Allow{Hibernated: a.Hibernated, DropJournal: a.DropJournal, SafeMode: safe}}
}

// arrived wakes a host at which somebody has come with a stick. It is only a remark: a stick
// that repairs outweighs what a person said before.
func (k *kit) arrived(ctx context.Context, run, host, stick string) {
	note := remediate.Note{By: "stick " + stick, What: remediate.Remarked, Text: "arrived"}
	if err := k.store.Wake(ctx, run, host, note); err != nil {
		k.log.Warn("cannot wake a host", "run", run, "host", host, "error", err)
	}
}

// openImage opens the rescue image: a folder that unbrick image build made, or one file.
func (k *kit) openImage() (rescue.Base, error) {
	const hint = "build it on a Debian machine: unbrick image build --out unbrick-image"
	info, err := os.Stat(k.cfg.Image)
	if err != nil {
		return rescue.Base{}, hinted(fmt.Errorf("cannot open the rescue image: %w", err), hint)
	}
	if !info.IsDir() {
		base, file, err := rescue.OpenBase(k.cfg.Image)
		if err == nil {
			k.closers = append(k.closers, file)
		}
		return base, hinted(err, hint)
	}
	img, err := image.Open(k.cfg.Image)
	if err != nil {
		return rescue.Base{}, hinted(err, hint)
	}
	k.closers = append(k.closers, img)
	return rescue.Base{ReaderAt: img, Size: img.Size, ConfigOffset: img.ConfigOffset}, nil
}

// openStore opens the state, quietly: what it has to say goes to the log.
func openStore(c *cli.Context, cfg *config) (*engine.Store, error) {
	store, err := engine.Open(c.Context, cfg.State, slog.New(slog.DiscardHandler))
	return store, hinted(err, "--state names another place")
}

// shared says whether the state is in a database that other machines reach too.
func shared(state string) bool { return strings.Contains(state, "://") }

// redactedState leaves out of a database address where a password may be: after the user's
// name, and among the parameters.
func redactedState(state string) string {
	scheme, rest, ok := strings.Cut(state, "://")
	if !ok {
		return state
	}
	rest, _, _ = strings.Cut(rest, "?")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + rest[at:]
	}
	return scheme + "://" + rest
}

// stateExists refuses to make an empty state where somebody wanted to read one.
func stateExists(state string) error {
	if shared(state) {
		return nil
	}
	_, err := os.Stat(state)
	if errors.Is(err, fs.ErrNotExist) {
		return usage("unbrick run makes it; --state names the one of a run", "no state file %s", state)
	}
	return err
}

// openLog opens the file of --log, for the developer: debug level, as JSON. It holds no
// secret.
func openLog(c *cli.Context) (*slog.Logger, io.Closer, error) {
	name := c.String("log")
	if name == "" {
		return slog.New(slog.DiscardHandler), io.NopCloser(nil), nil
	}
	f, err := os.OpenFile(filepath.Clean(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, usage("--log names a file that can be written", "cannot open the log: %v", err)
	}
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})), f, nil
}
