// Command fake stands in for the programs of WinPE that Wine lacks, by the name that it is
// started with. It writes each call to C:\fake\calls.
//
// manage-bde knows a volume by the folder C:\fake\LETTER, which holds its key, what it says of
// its protectors, and the files that appear when it is unlocked. bcdedit puts C:\fake\bcd.set or
// C:\fake\bcd.cleared in place of the store, and fails if that is not there.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const home = `C:\fake`

func main() {
	name := strings.TrimSuffix(strings.ToLower(filepath.Base(os.Args[0])), ".exe")
	record(append([]string{name}, os.Args[1:]...))
	switch name {
	case "manage-bde":
		os.Exit(manageBDE(os.Args[1:]))
	case "bcdedit":
		os.Exit(bcdEdit(os.Args[1:]))
	}
}

func bcdEdit(args []string) int {
	if len(args) < 5 || args[0] != "/store" {
		return 1
	}
	b, err := os.ReadFile(home + map[string]string{"/set": `\bcd.set`, "/deletevalue": `\bcd.cleared`}[args[2]])
	if err != nil {
		fmt.Println("Der angegebene Eintragstyp ist ungültig.")
		return 1
	}
	if err := os.WriteFile(args[1], b, 0o600); err != nil {
		panic(err)
	}
	return 0
}

func record(call []string) {
	f, err := os.OpenFile(home+`\calls`, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if err := json.NewEncoder(f).Encode(call); err != nil {
		panic(err)
	}
}

// Exit codes as Windows has them: FVE_E_FAILED_AUTHENTICATION of winerror.h.
const failedAuthentication = -2144272345

func manageBDE(args []string) int {
	fmt.Println("BitLocker-Laufwerksverschlüsselung: Konfigurationstool, Version 10.0.19041")
	switch {
	case len(args) == 4 && args[0] == "-unlock" && args[2] == "-recoverypassword":
		return unlock(args[1], args[3])
	case len(args) == 5 && slices.Equal(args[:2], []string{"-protectors", "-get"}):
		b, err := os.ReadFile(filepath.Join(home, args[2][:1], "protectors"))
		if err != nil {
			return -1
		}
		fmt.Printf("%s\n", b)
		return 0
	}
	return -1
}

func unlock(volume, password string) int {
	dir := filepath.Join(home, volume[:1])
	key, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil || string(key) != password {
		fmt.Println("FEHLER: Das Kennwort", password, "konnte nicht verwendet werden.")
		return failedAuthentication
	}
	f, err := os.OpenFile(`\\.\`+volume, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("\xeb\x52\x90NTFS    "), 0); err != nil {
		panic(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "files"))
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(dir, "files", e.Name()), volume+`\`+e.Name()); err != nil {
			panic(err)
		}
	}
	return 0
}
