package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// maxKept is the size of the largest file that the agent removes: it is sent from memory,
// because it may have to be sent again.
const maxKept = 256 << 20

// A keeper sends what is about to be removed to the server's quarantine, or puts it on the
// stick where there is no server.
type keeper struct {
	ctx    context.Context // Keep has none
	client *client
	place  Place // nil: the server
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
	if k.place != nil {
		err := k.place.Write(wire.StickQuarantine+"/"+f.SHA256, b)
		if err != nil && !errors.Is(err, fs.ErrExist) { // one that is there has the same content
			return fmt.Errorf("cannot write a copy of %s to the stick: %w", f.Path, err)
		}
		return nil
	}
	header := http.Header{wire.FileHeader: {url.PathEscape(k.volume + ":/" + f.Path)}}
	if err := k.client.send(k.ctx, http.MethodPut, "/v1/quarantine/"+f.SHA256, b, header, nil); err != nil {
		return fmt.Errorf("cannot send a copy of %s to the quarantine: %w", f.Path, err)
	}
	return nil
}
