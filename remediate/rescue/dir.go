package rescue

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Files of Config.Dir.
const (
	serverKeyFile = "server.key" // PKCS #8, PEM: what the pin is made from
	tokenKeyFile  = "token.key"  // 32 random bytes, hex
	quarantineDir = "quarantine"
)

// keys are what the server's directory holds.
type keys struct {
	cert  tls.Certificate
	pin   string
	token []byte
}

// loadKeys reads the keys in dir, and makes those that are not there. Two processes may do so
// at the same time: both end up with the same keys.
func loadKeys(dir string) (k keys, err error) {
	if err := os.MkdirAll(filepath.Join(dir, quarantineDir), 0o700); err != nil {
		return k, fmt.Errorf("cannot make the rescue server's directory: %w", err)
	}
	if err := checkMode(dir, 0o022, "chmod go-w"); err != nil {
		return k, err
	}
	serverKey, err := readOrMake(filepath.Join(dir, serverKeyFile), newServerKey)
	if err != nil {
		return k, err
	}
	if k.cert, k.pin, err = certificate(serverKey); err != nil {
		return k, fmt.Errorf("cannot use %s: %v; restore it from a backup, or delete it to get a new one (images in use then stop working)", filepath.Join(dir, serverKeyFile), err)
	}
	text, err := readOrMake(filepath.Join(dir, tokenKeyFile), newTokenKey)
	if err != nil {
		return k, err
	}
	k.token, err = hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(k.token) != 32 {
		return k, fmt.Errorf("%s is damaged; delete it to get a new one (images in use then stop working)", filepath.Join(dir, tokenKeyFile))
	}
	return k, nil
}

// checkMode refuses a file that more people may touch than should.
func checkMode(name string, forbidden fs.FileMode, cure string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot use the rescue server's directory: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&forbidden != 0 {
		return fmt.Errorf("%s has mode %04o: others than its owner could take the server's place; run: %s %s", name, info.Mode().Perm(), cure, name)
	}
	return nil
}

// readOrMake returns the content of the file, which it makes, whole or not at all, if it is
// not there.
func readOrMake(name string, make func() ([]byte, error)) ([]byte, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = make(); err == nil {
			err = createWhole(name, b)
		}
		if errors.Is(err, fs.ErrExist) { // another process was faster: its key counts
			b, err = os.ReadFile(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot keep the rescue server's key: %w", err)
	}
	return b, checkMode(name, 0o077, "chmod 600")
}

// createWhole writes a new file that is seen by others only when it is complete and on disk.
// The error wraps fs.ErrExist if the name is taken.
func createWhole(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir puts the names in dir on disk. Windows has no such call and does not need it.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newServerKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newTokenKey() ([]byte, error) {
	b := make([]byte, 32)
	rand.Read(b)
	return []byte(hex.EncodeToString(b) + "\n"), nil
}

// certificate makes the certificate of a key: anew at each start, since agents look at the
// key alone, so that there is no expiry to miss.
func certificate(keyPEM []byte) (cert tls.Certificate, pin string, err error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return cert, "", errors.New("it is not a PEM file")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return cert, "", err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return cert, "", errors.New("it is not an ECDSA key")
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "unbrick rescue server"},
		NotBefore:    now.AddDate(-1, 0, 0),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return cert, "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return cert, "", err
	}
	sum := sha256.Sum256(spki)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, hex.EncodeToString(sum[:]), nil
}
