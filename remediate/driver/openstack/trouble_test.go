package openstack_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/driver/openstack"
	"unbrick/remediate/driver/openstack/openstacktest"
)

type object = openstacktest.Object

// newCloud returns a cloud with one server, and a driver that is logged in to it.
func newCloud(t *testing.T, s openstacktest.Server) (*openstacktest.Cloud, *openstack.Driver) {
	t.Helper()
	c := openstacktest.New()
	s.ID, s.Name = id, "ws1"
	c.AddServer(s)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	login(t, server.URL, c.Password)
	return c, newDriver()
}

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		server openstacktest.Server
		change func(*openstacktest.Cloud)
		want   string
	}{
		"rescued":   {openstacktest.Server{More: object{"status": "RESCUE"}}, nil, "not unbrick that put it there"},
		"suspended": {openstacktest.Server{More: object{"status": "SUSPENDED"}}, nil, "resume it and look"},
		"shelved":   {openstacktest.Server{More: object{"status": "SHELVED_OFFLOADED"}}, nil, "unshelve it"},
		"resizing":  {openstacktest.Server{More: object{"status": "VERIFY_RESIZE"}}, nil, "confirm or revert"},
		"odd":       {openstacktest.Server{More: object{"status": "PASSWORD"}}, nil, "it is PASSWORD"},
		"locked":    {openstacktest.Server{More: object{"locked": true}}, nil, "openstack server unlock"},
		"vtpm":      {openstacktest.Server{More: object{"flavor": object{"extra_specs": object{"hw:tpm_version": "2.0"}}}}, nil, "virtual TPM"},
		"old nova":  {openstacktest.Server{Volume: true}, func(c *openstacktest.Cloud) { c.Max = "2.79" }, "it speaks 2.79, and 2.87 is needed"},
		"busy":      {openstacktest.Server{More: object{"OS-EXT-STS:task_state": "image_snapshot"}}, nil, "(image_snapshot)"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, d := newCloud(t, c.server)
			if c.change != nil {
				c.change(cloud)
			}
			before := cloud.View()
			_, err := d.Observe(t.Context(), target())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\n") {
				t.Errorf("observe: %v, want %q and what to do", err, c.want)
			}
			if name == "busy" { // that is waited for
				return
			}
			if err := d.Enter(t.Context(), target(), remediate.Image{URL: media(t) + "/i/x/rescue.iso"}); err == nil || !strings.Contains(err.Error(), c.want) && name != "rescued" {
				t.Errorf("enter: %v, want %q", err, c.want)
			}
			if err := d.Leave(t.Context(), target(), remediate.Posture{}); err == nil && name == "rescued" {
				t.Error("somebody else's rescue was ended")
			}
			if is := strings.SplitAfter(cloud.View(), "\n")[0]; is != strings.SplitAfter(before, "\n")[0] {
				t.Errorf("it was %s and is %s", before, is)
			}
		})
	}
}

// What Nova alone knows it says itself: the policy that forbids it, the vTPM that is not shown.
func TestNovaSays(t *testing.T) {
	for name, c := range map[string]struct {
		server openstacktest.Server
		change func(*openstacktest.Cloud)
		want   string
		image  string
	}{
		"policy":       {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Deny("os_compute_api:os-rescue", true) }, "Policy doesn't allow os_compute_api:os-rescue", "x"},
		"glance":       {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Deny("add_image", true) }, "Policy doesn't allow add_image", "x"},
		"hidden vtpm":  {openstacktest.Server{TPM: true}, nil, "not supported for vTPM-enabled instance", "x"},
		"no trait":     {openstacktest.Server{Volume: true}, func(c *openstacktest.Cloud) { c.BFV = false }, "Host unable to rescue a volume-backed instance", "x"},
		"fails":        {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Fail("rescue", "no valid bus") }, "did not go into rescue mode: it is ERROR, since no valid bus", "x"},
		"no image":     {openstacktest.Server{}, nil, "the image server answers 404", "missing"},
		"very old":     {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Max = "2.30" }, "older than what unbrick asks", "x"},
		"not there":    {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Set(id, "id", "gone") }, "was it deleted?", "x"},
		"fails to end": {openstacktest.Server{}, func(c *openstacktest.Cloud) { c.Fail("unrescue", "lost") }, "", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, d := newCloud(t, c.server)
			before := cloud.View()
			if c.change != nil {
				c.change(cloud)
			}
			url := media(t)
			err := d.Enter(t.Context(), target(), remediate.Image{URL: url + "/i/" + c.image + "/rescue.iso"})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), url) {
				t.Errorf("the address of the image is as good as a password: %v", err)
			}
			if c.want == "was it deleted?" || c.want == "older than what unbrick asks" {
				return
			}
			if err := d.Leave(t.Context(), target(), remediate.Posture{Power: "on", Detail: map[string]string{"status": "ACTIVE"}}); err != nil {
				t.Error(err)
			}
			if is := cloud.View(); is != before {
				t.Errorf("it was\n%s\nand is\n%s", before, is)
			}
		})
	}
}

// What an earlier attempt left is tidied up: its rescue, its image, one that is half full, and
// one that was made twice.
func TestEarlierAttempt(t *testing.T) {
	cloud, d := newCloud(t, openstacktest.Server{})
	before, url := cloud.View(), media(t)
	if err := d.Enter(t.Context(), target(), remediate.Image{URL: url + "/i/a/rescue.iso"}); err != nil {
		t.Fatal(err)
	}
	cloud.AddImage(object{"id": "00000000-0000-4000-8000-0000000000bb", "name": "unbrick-rescue-" + id, "status": "saving"})
	if err := newDriver().Enter(t.Context(), target(), remediate.Image{URL: url + "/i/b/rescue.iso"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cloud.Boots(id), " "); got != url+"/i/a/rescue.iso disk "+url+"/i/b/rescue.iso" {
		t.Errorf("it booted %s", got)
	}
	if strings.Count(cloud.View(), "image ") != 1 {
		t.Errorf("left: %s", cloud.View())
	}
	if err := newDriver().Leave(t.Context(), target(), remediate.Posture{}); err != nil || cloud.View() != before {
		t.Errorf("%v: %s", err, cloud.View())
	}
}

// An image that was left half full is made anew, and one that nothing was brought to is filled.
func TestHalfFull(t *testing.T) {
	for _, status := range []string{"saving", "queued"} {
		cloud, d := newCloud(t, openstacktest.Server{})
		url := media(t) + "/i/a/rescue.iso"
		sum := sha256.Sum256([]byte(url))
		cloud.AddImage(object{"id": "00000000-0000-4000-8000-0000000000bb", "name": "unbrick-rescue-" + id, "status": status, "unbrick_source": hex.EncodeToString(sum[:16]), "hw_rescue_device": "cdrom"})
		if err := d.Enter(t.Context(), target(), remediate.Image{URL: url}); err != nil || strings.Join(cloud.Boots(id), " ") != url {
			t.Errorf("%s: %v, and it booted %q", status, err, cloud.Boots(id))
		}
	}
}

// A server that was off is started, and one whose token ended in between is left all the same.
func TestOffAndExpired(t *testing.T) {
	cloud, d := newCloud(t, openstacktest.Server{More: object{"status": "SHUTOFF"}})
	p, err := d.Observe(t.Context(), target())
	if err != nil || p.Power != "off" || p.Detail["boots"] != "its image's disk" {
		t.Fatalf("%v, %v", p, err)
	}
	for n := range 9 {
		cloud.Lives(n)
		img := remediate.Image{URL: media(t) + "/i/x/rescue.iso"}
		err := d.Enter(t.Context(), target(), img)
		if retry := (*remediate.RetryError)(nil); errors.As(err, &retry) { // in the middle of the image
			err = d.Enter(t.Context(), target(), img)
		}
		if err != nil {
			t.Fatalf("the token ended after %d requests: %v", n, err)
		}
		cloud.Lives(n)
		if err := d.Leave(t.Context(), target(), p); err != nil || !strings.Contains(cloud.View(), "status:ACTIVE") {
			t.Fatalf("the token ended after %d requests: %v", n, err)
		}
		cloud.Set(id, "status", "SHUTOFF")
	}
	for _, b := range cloud.Boots(id) {
		if b != openstacktest.Disk && !strings.HasSuffix(b, "/i/x/rescue.iso") {
			t.Errorf("it booted %q", b)
		}
	}
	if err := d.Leave(t.Context(), target(), p); err != nil || !strings.Contains(cloud.View(), "status:ACTIVE") {
		t.Error(err)
	}
}

// A server in ERROR is not started anew where Windows was seen.
func TestUp(t *testing.T) {
	cloud, d := newCloud(t, openstacktest.Server{More: object{"status": "ERROR"}})
	tg := target()
	tg.Up = true
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err == nil || cloud.Actions() > 0 {
		t.Error(err)
	}
}

// A wrong password is said without the password, and is no reason to try for long.
func TestLogin(t *testing.T) {
	c := openstacktest.New()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	login(t, server.URL, "wr0ng")
	_, err := newDriver().Observe(t.Context(), target())
	var retry *remediate.RetryError
	if err == nil || !strings.Contains(err.Error(), "cannot log in to OpenStack: OpenStack says 401") || strings.Contains(err.Error(), "wr0ng") || errors.As(err, &retry) {
		t.Error(err)
	}
	tg := target()
	tg.Route.Address = "nowhere/" + id
	if _, err := newDriver().Observe(t.Context(), tg); err == nil || !strings.Contains(err.Error(), "clouds.yaml") {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	_, d := newCloud(t, openstacktest.Server{})
	for _, a := range []string{"", "ws1", "corp/ws1", "/" + id, "a/b/" + id, id + "/"} {
		tg := target()
		tg.Route.Address = a
		if _, err := d.Observe(t.Context(), tg); err == nil || !strings.Contains(err.Error(), "CLOUD/UUID") {
			t.Errorf("%s: %v", a, err)
		}
	}
	tg := target()
	tg.Route.Address = strings.ToUpper(id)
	named := openstack.New(openstack.Options{Cloud: "corp", Every: time.Millisecond, PerSecond: 1e6})
	if _, err := named.Observe(t.Context(), tg); err != nil {
		t.Error(err)
	}
}

// A server that never ends what it is at is left when time is up.
func TestStuck(t *testing.T) {
	cloud, d := newCloud(t, openstacktest.Server{More: object{"OS-EXT-STS:task_state": "spawning"}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Leave(ctx, target(), remediate.Posture{}); err == nil || cloud.Actions() > 0 {
		t.Error(err)
	}
}
