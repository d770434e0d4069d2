package lab

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate/driver/amt/amttest"
	"unbrick/remediate/driver/ipmi/ipmitest"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// A boot is what the firmware of a host starts.
type boot struct {
	image string // where the rescue image is
	disc  string // or what is in it; both empty: the disk
	stuck bool   // what it was told to start is not there, and it does not go on to the disk
}

// A controller switches a host on and off, and is a way in.
type controller interface {
	route() inventory.Route
	// again says that the host resets itself, and what it boots then. ok is false if the
	// controller starts it, as it does when the power comes.
	again() (b boot, ok bool)
	// left says, a line each, what is not as it should be when nobody uses the controller.
	left() []string
	Close()
}

// newController starts the controller of h that speaks the protocol of the way. There is none
// if the way needs none.
func newController(h *host, way string, certificate *tls.Certificate) (controller, error) {
	switch way {
	case "redfish":
		return newBMC(h, certificate)
	case "ipmi":
		return newIPMI(h)
	case "amt":
		return newAMT(h, certificate)
	}
	return nil, nil
}

// A bmc speaks Redfish.
type bmc struct {
	*redfishtest.BMC
	address string // or that of nobody
}

func newBMC(h *host, certificate *tls.Certificate) (*bmc, error) {
	b, err := redfishtest.Start(redfishtest.Options{
		Model: h.model, User: controllerUser, Password: controllerPassword, UUID: h.board.uuid, Serial: h.board.serial,
		Certificate: certificate, Off: h.kind.off, Unlicensed: h.kind.unlicensed,
		Host: behindBMC{h}, Record: h.log.recorder(h.Name),
	})
	if err != nil {
		return nil, err
	}
	c := &bmc{b, b.URL()}
	if h.kind.dead {
		c.address = "https://" + nobody(h.number)
	}
	return c, nil
}

func (c *bmc) route() inventory.Route { return inventory.Route{Driver: "redfish", Address: c.address} }
func (c *bmc) again() (boot, bool)    { return fromRedfish(c.Reboot()), true }
func (c *bmc) left() []string         { return leftInBMC(c.BMC) }

// leftInBMC says what was not put back in a BMC that speaks Redfish.
func leftInBMC(b *redfishtest.BMC) (left []string) {
	st := b.State()
	for slot, media := range st.Media {
		left = append(left, fmt.Sprintf("slot %s holds %s", slot, media.Image))
	}
	if st.Override.Enabled != "Disabled" && st.Override.Enabled != "" {
		left = append(left, "the next start is from "+st.Override.Target)
	}
	if st.Sessions > 0 {
		left = append(left, fmt.Sprintf("%d sessions are open", st.Sessions))
	}
	if st.Power != "On" {
		left = append(left, "the power is "+strings.ToLower(st.Power))
	}
	return left
}

func fromRedfish(b redfishtest.Boot) boot {
	if b.Device == redfishtest.Cd {
		return boot{image: b.Image}
	}
	return boot{}
}

type behindBMC struct{ h *host }

func (b behindBMC) Start(at redfishtest.Boot) { b.h.start(fromRedfish(at)) }
func (b behindBMC) Stop()                     { b.h.stop() }

// An ipmiBMC speaks IPMI. Only the power is switched by it.
type ipmiBMC struct{ *ipmitest.BMC }

func newIPMI(h *host) (*ipmiBMC, error) {
	o := ipmitest.Options{
		User: controllerUser, Password: controllerPassword,
		Started: func(device string) {
			h.log.write(h.Name, "power", "on")
			h.start(boot{stuck: device != ipmitest.Disk})
		},
		Stopped: func() {
			h.log.write(h.Name, "power", "off")
			h.stop()
		},
	}
	_, err := hex.Decode(o.GUID[:], []byte(strings.ReplaceAll(h.board.uuid, "-", "")))
	if err != nil {
		return nil, err
	}
	b, err := ipmitest.Start(o)
	return &ipmiBMC{b}, err
}

func (c *ipmiBMC) route() inventory.Route { return inventory.Route{Driver: "ipmi", Address: c.Addr()} }
func (c *ipmiBMC) again() (boot, bool)    { return boot{}, true } // nothing here sets boot flags

func (c *ipmiBMC) left() (left []string) {
	st := c.State()
	if st.Flags.Valid {
		left = append(left, "the next start is from "+st.Flags.Device)
	}
	if st.Sessions > 0 {
		left = append(left, fmt.Sprintf("%d sessions of IPMI are open", st.Sessions))
	}
	if !st.On {
		left = append(left, "the power is off")
	}
	return left
}

// A vpro is the management firmware of a client.
type vpro struct{ *amttest.AMT }

func newAMT(h *host, certificate *tls.Certificate) (*vpro, error) {
	root, err := x509.ParseCertificate(certificate.Certificate[0]) // of who serves the image: see front
	if err != nil {
		return nil, err
	}
	o := amttest.Options{
		User: controllerUser, Password: controllerPassword, UUID: h.board.uuid, Serial: h.board.serial,
		Certificate: certificate, Roots: []*x509.Certificate{root}, Host: behindAMT{h},
		Record: func(a amttest.Action) { h.log.write(h.Name, a.Kind, a.Detail) },
	}
	if h.kind.oldAMT {
		o.Version = "11.8.92"
	}
	a, err := amttest.Start(o)
	return &vpro{a}, err
}

func (c *vpro) route() inventory.Route { return inventory.Route{Driver: "amt", Address: c.Addr()} }
func (c *vpro) again() (boot, bool)    { c.Reset(); return boot{}, false }

func (c *vpro) left() (left []string) {
	st := c.State()
	if st.NextOnce || st.Source != "" || st.Params > 0 {
		left = append(left, "the next start is from "+st.Source)
	}
	if !st.On {
		left = append(left, "the power is off")
	}
	return left
}

type behindAMT struct{ h *host }

func (b behindAMT) Start(at amttest.Boot) {
	b.h.start(boot{image: at.URL, stuck: at.Source != amttest.Disk && at.Source != amttest.HTTPS})
}
func (b behindAMT) Stop() { b.h.stop() }

// nobody returns an address at which nothing listens, another one for each number. It is below
// the ports that systems give out by themselves, so that no host of the lab comes to listen there.
func nobody(number int) string {
	for port := 10000 + number%10000; ; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		c, err := net.Dial("tcp", address)
		if err != nil {
			return address
		}
		c.Close()
	}
}
