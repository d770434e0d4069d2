package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"

	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// writeStub writes, as unbrick image build would, an image that boots nothing: simulated hosts
// read their configuration in it, whether it is a disc or loaded from the network.
func writeStub(dir string) error {
	stub := rescue.StubImage()
	iso, err := io.ReadAll(io.NewSectionReader(stub, 0, stub.Size))
	if err != nil {
		return err
	}
	m := image.Manifest{Profile: image.Lab, Agent: "lab", ConfigOffset: stub.ConfigOffset, ConfigSize: wire.ConfigSize}
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{image.ISOName, iso},
		{path.Join(image.NetbootName, "shimx64.efi"), []byte(rescue.StubName)},
		{path.Join(image.NetbootName, "site.img"), iso},
	} {
		name := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := writeFile(name, 0o644, bytes.NewReader(f.content)); err != nil {
			return err
		}
		sum := sha256.Sum256(f.content)
		m.Files = append(m.Files, image.File{Path: f.name, Size: int64(len(f.content)), SHA256: hex.EncodeToString(sum[:])})
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, image.ManifestName), 0o644, bytes.NewReader(append(b, '\n')))
}
