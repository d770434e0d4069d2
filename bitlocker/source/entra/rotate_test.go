package entra_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/entra"
)

var _ bitlocker.Rotator = (*entra.Tenant)(nil)

const (
	canRead   = "DeviceManagementManagedDevices.Read.All"
	canRotate = "DeviceManagementManagedDevices.PrivilegedOperations.All"
)

// An intune manages some of the devices of a graph, each under an id of its own.
type intune struct {
	*graph
	managed map[string]string // Intune's id to the host
	rotated []string
	refuses bool
}

func newIntune(t *testing.T, keys ...keytest.Filing) *intune {
	i := &intune{graph: newGraph(t, keys...), managed: map[string]string{}}
	i.roles = append(i.roles, canRead, canRotate)
	mux := http.NewServeMux()
	mux.Handle("/", i.Config.Handler)
	mux.HandleFunc("GET /v1.0/deviceManagement/managedDevices", i.api(canRead, i.list))
	mux.HandleFunc("POST /beta/deviceManagement/managedDevices/{id}/rotateBitLockerKeys", i.api(canRotate, i.rotate))
	i.Config.Handler = mux
	return i
}

func (i *intune) list(w http.ResponseWriter, r *http.Request) {
	filter, ok := strings.CutPrefix(r.URL.Query().Get("$filter"), "azureADDeviceId eq '")
	if !ok {
		fail(w, http.StatusBadRequest, "BadRequest")
		return
	}
	var all []any
	for id, host := range i.managed {
		if filter == deviceID("PC1")+"'" { // all stand-ins are of one device
			all = append(all, map[string]any{"id": id, "deviceName": host})
		}
	}
	i.paged(w, r, all)
}

func (i *intune) rotate(w http.ResponseWriter, r *http.Request) {
	if i.managed[r.PathValue("id")] == "" || i.refuses || r.ContentLength > 0 {
		fail(w, http.StatusNotFound, "ResourceNotFound")
		return
	}
	i.rotated = append(i.rotated, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func TestRotate(t *testing.T) {
	r := rand.NewPCG(8, 8)
	k := keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)}
	orphan := keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC2", Key: keytest.NewKey(r)}
	start := func(t *testing.T) (*intune, *entra.Tenant) {
		i := newIntune(t, k, orphan)
		i.managed["intune-1"] = "PC1"
		return i, i.open(t, nil)
	}
	t.Run("asks Intune by Intune's id and reads no key", func(t *testing.T) {
		i, tenant := start(t)
		i.set(func() { i.refuse, i.after = []int{http.StatusTooManyRequests}, "1" })
		if err := tenant.Rotate(t.Context(), bitlocker.Query{ID: k.ID, Host: "pc1.corp.example"}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(i.rotated, []string{"intune-1"}) || i.reads != 0 {
			t.Errorf("asked for %v, read %d keys", i.rotated, i.reads)
		}
	})
	for name, test := range map[string]struct {
		change func(*intune)
		query  bitlocker.Query
		is     error
		want   string
	}{
		"no such key":      {nil, bitlocker.Query{ID: keytest.NewKeyID(r)}, bitlocker.ErrNoKey, ""},
		"not managed":      {nil, bitlocker.Query{ID: orphan.ID, Host: "PC2"}, bitlocker.ErrNoRotation, "Intune does not manage the host"},
		"several":          {func(i *intune) { i.managed["intune-2"] = "PC1" }, bitlocker.Query{ID: k.ID}, bitlocker.ErrNoRotation, "Intune has 2 devices"},
		"refused":          {func(i *intune) { i.refuses = true }, bitlocker.Query{ID: k.ID}, bitlocker.ErrNoRotation, "Intune refuses it for this host"},
		"another host":     {nil, bitlocker.Query{ID: k.ID, Host: "PC7"}, nil, "is not of host PC7: the escrow files it under PC1"},
		"may not read":     {func(i *intune) { i.roles = []string{"BitlockerKey.Read.All", canRotate} }, bitlocker.Query{ID: k.ID}, nil, "the application lacks " + canRead},
		"may not rotate":   {func(i *intune) { i.roles = []string{"BitlockerKey.Read.All", canRead} }, bitlocker.Query{ID: k.ID}, nil, "the application lacks " + canRotate},
		"a person may not": {func(i *intune) { i.scope, i.roles = "BitlockerKey.Read.All "+canRead, nil }, bitlocker.Query{ID: k.ID}, nil, "the person who signed in lacks " + canRotate},
	} {
		t.Run(name, func(t *testing.T) {
			i, tenant := start(t)
			if test.change != nil {
				i.set(func() { test.change(i) })
			}
			err := tenant.Rotate(t.Context(), test.query)
			if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if len(i.rotated) > 0 {
				t.Errorf("asked for %v", i.rotated)
			}
		})
	}
}
