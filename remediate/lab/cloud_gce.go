package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"

	"unbrick/remediate/driver/gce/gcetest"
)

// newGCE plays Compute Engine, for a service account whose key is a file.
func newGCE(dir, url string) (*cloud, error) {
	const project, zone = "unbrick-lab", "europe-west1-b"
	s := gcetest.New(project)
	s.AddInstance(gcetest.Instance{Zone: zone, Name: helperName})
	account, err := serviceAccount(project, url+"/token")
	if err != nil {
		return nil, err
	}
	return &cloud{
		kind:      "gce",
		source:    fmt.Sprintf("projects: [%s], windows: true, endpoint: %q", project, url+"/compute/v1"),
		swap:      fmt.Sprintf("{endpoint: %q}", url+"/compute/v1"),
		handler:   s,
		helper:    helperName,
		files:     map[string]string{"google-credentials.json": account},
		env:       map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": filepath.Join(dir, "google-credentials.json")},
		snapshots: func() int { return len(s.Snapshots()) },
		settle:    s.Pass,
		launch: func(h spec, address string, protected bool) (placed, error) {
			more := gcetest.Object{"networkInterfaces": []any{gcetest.Object{"networkIP": address}}}
			if protected {
				more["metadata"] = gcetest.Object{"items": []any{gcetest.Object{"key": "created-by",
					"value": "projects/1/zones/" + zone + "/instanceGroupManagers/web"}}}
			}
			s.AddInstance(gcetest.Instance{Zone: zone, Name: h.Name, More: more,
				Disk: gcetest.Object{"guestOsFeatures": []any{gcetest.Object{"type": "WINDOWS"}}}})
			return placed{address: project + "/" + zone + "/" + h.Name,
				look: func() sight { return lookGCE(s, zone, h.Name) }, shown: func() string { return showGCE(s, zone, h.Name) }}, nil
		},
	}, nil
}

func lookGCE(s *gcetest.Server, zone, name string) (t sight) {
	status, disks := s.Stands(zone, name)
	t.runs = status == "RUNNING" && disks[name] == name
	_, lent := s.Stands(zone, helperName)
	for device, disk := range lent {
		if disk == name {
			t.mark = device
		}
	}
	return t
}

func showGCE(s *gcetest.Server, zone, name string) (text string) {
	for line := range strings.Lines(s.View()) {
		if strings.HasPrefix(line, zone+"/"+name+" ") || strings.Contains(line, "/disks/"+name+" ") {
			text += line
		}
	}
	return text
}

// serviceAccount is the key file of one, as gcloud makes it.
func serviceAccount(project, tokens string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": project, "private_key_id": "lab",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "unbrick@" + project + ".iam.gserviceaccount.com", "client_id": "1", "token_uri": tokens,
	}, "", "  ")
	return string(b) + "\n", err
}
