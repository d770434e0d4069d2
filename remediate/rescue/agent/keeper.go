package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// maxKept is the size of the largest file that the agent removes: it is sent from memory,
// because it may have to be sent again.
const maxKept = 256 << 20

// A keeper sends what is about to be removed to the server's quarantine.
type keeper struct {
	ctx    context.Context // Keep has none
	client *client
	volume string
}

// Keep implements playbooks.Keeper.
func (k *keeper) Keep(f playbooks.File, content io.Reader) error {
	if f.Size > maxKept {
		return fmt.Errorf("cannot keep a copy of %s: %d bytes are more than the agent can send", f.Path, f.Size)
	}
	b, err := io.ReadAll(io.LimitReader(content, f.Size+1))
	if err != nil {
		return fmt.Errorf("cannot keep a copy of %s: %w", f.Path, err)
	}
	if sum := sha256.Sum256(b); int64(len(b)) != f.Size || hex.EncodeToString(sum[:]) != f.SHA256 {
		return fmt.Errorf("cannot keep a copy of %s: it is not the file that was looked at", f.Path)
	}
	header := http.Header{wire.FileHeader: {url.PathEscape(k.volume + ":/" + f.Path)}}
	if err := k.client.send(k.ctx, http.MethodPut, "/v1/quarantine/"+f.SHA256, b, header, nil); err != nil {
		return fmt.Errorf("cannot send a copy of %s to the quarantine: %w", f.Path, err)
	}
	return nil
}
