package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"

	"unbrick/inventory/secret"
)

// A placedSecret is a reference to a secret, and where the configuration has it.
type placedSecret struct {
	place string // "credentials[0].password"
	ref   secret.Ref
}

// eachSecret finds every reference to a secret in a configuration.
func eachSecret(v reflect.Value, place string, found func(placedSecret)) {
	if e, ok := reflect.TypeAssert[sourceEntry](v); ok { // its fields are those of its kind
		if e.opener != nil {
			eachSecret(e.opener.config(), place, found)
		}
		return
	}
	if ref, ok := reflect.TypeAssert[secret.Ref](v); ok {
		if ref != "" {
			found(placedSecret{place, ref})
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachSecret(v.Elem(), place, found)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachSecret(v.Index(i), fmt.Sprintf("%s[%d]", place, i), found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "" {
				name = snake(f.Name)
			}
			if f.Type == reflect.TypeFor[secret.Login]() { // user and password stand where it does
				eachSecret(v.Field(i).FieldByName("Password"), place+".password", found)
				continue
			}
			if name == "keytab" && v.Field(i).String() != "" {
				found(placedSecret{place + ".keytab", secret.Ref("file:" + v.Field(i).String())})
			}
			eachSecret(v.Field(i), place+"."+name, found)
		}
	}
}

// secretFiles says which files with secrets others on this machine can read or change: whoever
// reads the keys of a fleet has its disks, and whoever changes them stops the run.
func (p *patient) secretFiles() {
	if runtime.GOOS == "windows" { // modes mean nothing there
		return
	}
	files, open := 0, 0
	look := func(place, name string) {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return // whoever reads it says so
		}
		files++
		mode, hint := info.Mode().Perm(), "chmod 600 "+name
		switch {
		case mode&0o004 != 0:
			p.warn("secrets", hint, "%s: everybody on this machine can read %s (mode %04o)", place, name, mode)
		case mode&0o022 != 0:
			p.warn("secrets", hint, "%s: others than its owner can change %s (mode %04o)", place, name, mode)
		default:
			return
		}
		open++
	}
	for i, name := range p.cfg.Keys {
		look(fmt.Sprintf("keys[%d]", i), name)
	}
	eachSecret(reflect.ValueOf(p.cfg).Elem(), "", func(s placedSecret) {
		if name, ok := strings.CutPrefix(string(s.ref), "file:"); ok {
			look(strings.TrimPrefix(s.place, "."), name)
		}
	})
	if name := configFile(p.c.String("config")); name != "" {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o022 != 0 {
			p.warn("secrets", "chmod go-w "+name, "others than its owner can change %s, which says what is run (mode %04o)", name, info.Mode().Perm())
		}
	}
	if files > 0 && open == 0 {
		p.ok("secrets", "%d files with secrets, for their owner alone", files)
	}
}

// configFile returns the configuration that is in use, empty if there is none.
func configFile(given string) string {
	if given != "" {
		return given
	}
	if _, err := os.Stat("unbrick.yaml"); err == nil {
		return "unbrick.yaml"
	}
	return ""
}
