package rescue

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"

	"unbrick/bitlocker"
	"unbrick/remediate/rescue/wire"
)

// A host has a few volumes with one or two protectors each. Who asks for more is no agent of
// ours.
const (
	maxProtectors = 16 // in one request, and different ones for one token
	maxRepeats    = 10 // of one protector for one token: lost answers
)

// Reasons why a key is denied.
const (
	deniedNoSource  = "this run has no source of recovery keys"
	deniedNobody    = "the host could not be recognised: the inventory has no UUID, serial number or MAC that the host itself shows"
	deniedNoID      = "this is not the id of a key protector"
	deniedTooMany   = "too many requests for keys of one host"
	deniedNoKey     = "no recovery key on record"
	deniedOtherHost = "the escrow files this key under another host"
	deniedDisagree  = "two escrows have different keys for it; a person has to say which one is right"
	deniedTrouble   = "the server could not get this key now (its log says why)"
)

// releaseKeys answers with the keys of the protectors asked for, each sealed to the agent's
// public key, and only while the host is at repair, known, and its token young. Every key is
// on the ledger before it is in the answer.
//
// Where no key was found and an escrow could not be asked, the answer is 503: the agent asks
// again.
func (s *Server) releaseKeys(c *call, cl *claim) (any, error) {
	var req wire.KeyRequest
	if err := c.decode(&req, maxHello); err != nil {
		return nil, err
	}
	if c.live == nil {
		return nil, notYet
	}
	if err := s.tooOld(c.job); err != nil {
		return nil, refuse(http.StatusForbidden, "%v", err)
	}
	if len(req.Protectors) > maxProtectors {
		return nil, refuse(http.StatusBadRequest, "%d protectors are more than a host has", len(req.Protectors))
	}
	ans := wire.KeyAnswer{Sealed: map[string][]byte{}, Denied: map[string]string{}}
	trouble := false
	for _, id := range req.Protectors {
		sealed, why := s.releaseKey(c, cl, id, req.Salts[id])
		if why == "" {
			ans.Sealed[id] = sealed
			continue
		}
		ans.Denied[id] = why
		trouble = trouble || why == deniedTrouble
	}
	if trouble && len(ans.Sealed) == 0 {
		return nil, refuse(http.StatusServiceUnavailable, "%s", deniedTrouble)
	}
	return ans, nil
}

// releaseKey returns one sealed key, or why there is none.
func (s *Server) releaseKey(c *call, cl *claim, asked string, salt []byte) (sealed []byte, why string) {
	id, err := bitlocker.ParseKeyID(asked)
	switch {
	case err != nil:
		return nil, deniedNoID
	case len(cl.Agrees) == 0:
		return nil, deniedNobody
	case s.cfg.Broker == nil:
		return nil, deniedNoSource
	case !c.live.mayRelease(id):
		c.log.Error("SECURITY: an agent asks for too many keys", "protector", id)
		return nil, deniedTooMany
	}
	pub, err := publicKey(cl.PublicKey)
	if err != nil {
		return nil, deniedTrouble
	}
	sealed, err = s.seal(c, cl, pub, id, asked, salt)
	var other *bitlocker.WrongHostError
	var disagree *bitlocker.DisagreementError
	switch {
	case err == nil:
		c.live.wasReleased(id)
		c.log.Info("recovery key released", "protector", id)
		return sealed, ""
	case errors.Is(err, bitlocker.ErrNoKey):
		why = deniedNoKey
	case errors.As(err, &other):
		why = deniedOtherHost
	case errors.As(err, &disagree):
		why = deniedDisagree
	default:
		why = deniedTrouble
	}
	c.log.Warn("recovery key not released", "protector", id, "why", why, "err", err)
	return nil, why
}

// seal takes the key from the broker, which puts the release on the ledger, and closes it
// for the agent alone. With a salt no more than the stretched key leaves.
func (s *Server) seal(c *call, cl *claim, pub hpke.PublicKey, id bitlocker.KeyID, asked string, salt []byte) ([]byte, error) {
	fingerprint := sha256.Sum256(cl.PublicKey)
	key, err := s.cfg.Broker.Release(c.Context(), bitlocker.Query{ID: id, Host: c.job.Host}, bitlocker.Recipient{
		Actor:   "agent of " + c.job.Host,
		Purpose: c.job.purpose(),
		Run:     c.job.Run,
		Sealed:  hex.EncodeToString(fingerprint[:]),
		Address: remoteIP(c.Request),
	})
	if err != nil {
		return nil, err
	}
	plain, info := []byte(key.Reveal()), wire.SealInfo(asked)
	if salt != nil {
		stretched, err := key.Stretch(salt)
		if err != nil {
			return nil, err
		}
		b := stretched.Bytes()
		plain, info = b[:], wire.StretchedInfo(asked)
	}
	return hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
}
