package bundle

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"unbrick/inventory/secret"
)

// Identities resolves one person's identities, as age-keygen writes them.
func Identities(ctx context.Context, ref secret.Ref) ([]age.Identity, error) {
	text, err := ref.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(text.Reveal()))
	if err != nil { // its words could be those of the identity
		return nil, fmt.Errorf("%s has no age identity in it (AGE-SECRET-KEY-…)", ref)
	}
	return ids, nil
}

// SigningKey resolves the key that signs bundles: Ed25519 in PEM, as
// "openssl genpkey -algorithm ed25519" writes it.
func SigningKey(ctx context.Context, ref secret.Ref) (ed25519.PrivateKey, error) {
	text, err := ref.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode([]byte(text.Reveal())); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if k, ok := key.(ed25519.PrivateKey); ok {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no Ed25519 private key in PEM (PKCS #8) in it", ref)
}

// ParseVerifyKey reads the public half, as "openssl pkey -pubout" writes it.
func ParseVerifyKey(text []byte) (ed25519.PublicKey, error) {
	if block, _ := pem.Decode(text); block != nil {
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if k, ok := key.(ed25519.PublicKey); ok {
				return k, nil
			}
		}
	}
	return nil, errors.New("this is no Ed25519 public key in PEM")
}
