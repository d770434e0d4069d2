package configmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"unbrick/inventory/secret"
)

// A connector resolves the password for each connection, and keeps it no longer.
type connector struct {
	cfg   msdsn.Config
	login secret.Login
}

func newConnector(cfg Config) (*connector, error) {
	if cfg.Server == "" || cfg.Database == "" {
		return nil, errors.New("name the server and the database")
	}
	if cfg.Login.User == "" && runtime.GOOS != "windows" {
		return nil, errors.New("give a login of SQL Server: the account of this process counts on Windows alone")
	}
	host, instance, _ := strings.Cut(cfg.Server, `\`)
	u := url.URL{Scheme: "sqlserver", Host: host, Path: instance,
		RawQuery: url.Values{"database": {cfg.Database}, "encrypt": {"true"}, "app name": {"unbrick"}}.Encode()}
	parsed, err := msdsn.Parse(u.String())
	if err != nil {
		return nil, fmt.Errorf("server %q is none: %w", cfg.Server, err)
	}
	if parsed.TLSConfig == nil {
		return nil, errors.New("the connection would not be encrypted")
	}
	parsed.TLSConfig.MinVersion = tls.VersionTLS12
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, err
		}
		parsed.TLSConfig.RootCAs = x509.NewCertPool()
		if !parsed.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", cfg.CA)
		}
	}
	return &connector{parsed, cfg.Login}, nil
}

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	cfg := c.cfg
	if c.login.User != "" {
		password, err := c.login.Password.Resolve(ctx)
		if err != nil {
			return nil, err
		}
		cfg.User, cfg.Password = c.login.User, password.Reveal()
	}
	return mssql.NewConnectorConfig(cfg).Connect(ctx)
}

// Driver implements [driver.Connector].
func (c *connector) Driver() driver.Driver { return &mssql.Driver{} }
