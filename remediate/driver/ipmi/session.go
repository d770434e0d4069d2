package ipmi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
)

const (
	tries       = 3  // of everything that may be lost on its way
	maxUser     = 16 // bytes
	maxPassword = 20 // bytes; 16 on BMCs that grew up with IPMI 1.5
	oldPassword = 16
	role        = types.PrivilegeLevelOperator // the least that may switch power and set boot flags
)

// A visit is one call of one method: one session at one BMC.
type visit struct {
	sw       *Switch
	addr     string
	user     string
	password secret.Value
	host     inventory.Host

	line    *line
	free    func() // ends the line
	client  *client.Client
	session uint32 // as the BMC names it; 0 if there is none
}

// visit logs in, calls do, and logs out, whatever happens.
func (s *Switch) visit(ctx context.Context, t remediate.Target, do func(*visit) error) error {
	addr, err := parseAddress(t.Route.Address)
	if err != nil {
		return err
	}
	leave, err := s.limit.Enter(ctx, addr)
	if err != nil {
		return fmt.Errorf("BMC %s was not asked: %w", addr, err)
	}
	defer leave()
	v := &visit{sw: s, addr: addr, host: t.Host}
	if v.user, v.password, err = s.opt.Login(ctx, t); err != nil {
		return fmt.Errorf("cannot log in to BMC %s: %w", addr, err)
	}
	if len(v.user) > maxUser || len(v.password.Reveal()) > maxPassword {
		return fmt.Errorf("cannot log in to BMC %s: IPMI takes user names of up to %d bytes and passwords of up to %d. Give the BMC an account that fits",
			addr, maxUser, maxPassword)
	}
	if err = v.open(ctx); err == nil {
		if err = v.rise(ctx); err == nil {
			err = do(v)
		}
		v.close(ctx)
	}
	return v.explain(ctx, err)
}

// open logs in with the first cipher suite that the BMC takes. A login that gets no answer is
// begun anew, on a new line: an answer that comes late must not be taken for that of another
// login, where it would look like a wrong password.
func (v *visit) open(ctx context.Context) error {
	var err error
	for _, suite := range []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3} {
		for range tries {
			err = v.login(ctx, suite)
			if troubleOf(err) != silent || ctx.Err() != nil {
				break
			}
		}
		if troubleOf(err) != noSuite {
			break
		}
	}
	return err
}

// login tries one suite. It leaves nothing open unless it succeeds.
func (v *visit) login(ctx context.Context, suite types.CipherSuiteID) (err error) {
	if v.line, v.free, err = dial(ctx, v.addr); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			v.abandon(ctx)
			v.free()
		}
	}()
	v.session = 0
	v.line.seal = seal{suite: suite, user: v.user, password: v.password}
	v.client, err = client.NewClient(v.addr, 0, v.user, v.password.Reveal())
	if err != nil {
		return err
	}
	v.client.WithUDPProxy(v.line).WithTimeout(v.sw.opt.Times.Reply).WithRetry(0).
		WithCipherSuiteID(suite).WithMaxPrivilegeLevel(role)
	opened, err := v.client.OpenSession(ctx)
	if err = v.line.refused(err); err != nil {
		return err
	}
	v.session = opened.ManagedSystemSessionID
	if !agreed(opened, suite) {
		return fmt.Errorf("BMC %s answered cipher suite %d with other algorithms than those", v.addr, suite)
	}
	proof, err := v.client.RAKPMessage1(ctx)
	if err = v.line.refused(err); err != nil {
		return err
	}
	if who := v.stranger(proof.ManagedSystemGUID); who != "" {
		return fmt.Errorf("BMC %s belongs to another host: %s. Correct the address or the inventory; if GUIDs of these BMCs are not their hosts', say so with ipmi.any_guid",
			v.addr, who)
	}
	return v.ask(ctx, func() error { _, err := v.client.RAKPMessage3(ctx); return v.line.refused(err) })
}

// rise takes the role that switches power: a session begins with that of a user.
func (v *visit) rise(ctx context.Context) error {
	err := v.ask(ctx, func() error { _, err := v.client.SetSessionPrivilegeLevel(ctx, role); return err })
	var code *types.ResponseError
	if errors.As(err, &code) && code.CompletionCode() >= 0x80 && code.CompletionCode() <= 0x82 { // IPMI 2.0, 22.18
		return types.NewResponseError(types.CodeInsufficientPrivilege, code.Error())
	}
	return err
}

// agreed says whether the BMC took the suite as it was offered: the library would go on with
// whatever it answers, no password check included.
func agreed(r *rmcpplus.OpenSessionResponse, suite types.CipherSuiteID) bool {
	auth, integrity, crypt, ok := types.GetCipherSuiteAlgorithms(suite)
	return ok && r.AuthAlg == uint8(auth) && r.IntegrityAlg == uint8(integrity) && r.CryptAlg == uint8(crypt)
}

// stranger says how a GUID shows that the BMC is another host's, or nothing. It is the UUID of
// the host's SMBIOS in one of three orders of its bytes, depending on who read the standard:
// two that every UUID has, and all of them turned round, as IPMI sends it.
func (v *visit) stranger(guid [16]byte) string {
	if v.sw.opt.AnyGUID {
		return ""
	}
	plain := fmt.Sprintf("%x", guid)
	slices.Reverse(guid[:])
	_, wrong := v.host.Compare(plain)
	if _, also := v.host.Compare(fmt.Sprintf("%x", guid)); wrong == nil || also == nil {
		return ""
	}
	return fmt.Sprintf("its GUID is %s, and the inventory says UUID %s", plain, v.host.UUID)
}

// ask calls until there is an answer. The library numbers each request anew, so that a BMC
// does not take a repeated one for a copy that the network made.
func (v *visit) ask(ctx context.Context, call func() error) error {
	var err error
	for range tries {
		if err = call(); troubleOf(err) != silent || ctx.Err() != nil {
			break
		}
	}
	return err
}

// abandon tells the BMC that a login is not gone on with, so that its place in the session
// table is free at once. It does not wait: BMCs need not answer that.
func (v *visit) abandon(ctx context.Context) {
	if v.session == 0 {
		return
	}
	msg := &rmcpplus.RAKPMessage3{RmcpStatusCode: types.RmcpStatusCodeInvalidIntegrityCheckValue, ManagedSystemSessionID: v.session}
	if packet, err := v.client.BuildRmcpRequest(context.WithoutCancel(ctx), msg); err == nil {
		_, _ = v.line.Write(packet.Pack())
	}
	v.session = 0
}

// close ends the session, with time of its own, two answers long: ctx may be over.
func (v *visit) close(ctx context.Context) {
	defer v.free()
	ctx = context.WithoutCancel(ctx)
	v.line.wait(true)
	for range 2 {
		_, err := v.client.CloseSession(ctx, &app.CloseSessionRequest{SessionID: v.session})
		var refused *types.ResponseError
		if err == nil || errors.As(err, &refused) {
			break
		}
	}
}
