package rotation

import (
	"errors"
	"fmt"
	"strings"

	"unbrick/bitlocker"
)

// The commands are Windows PowerShell 5.1 for an administrator of the host. They have ids in
// them and no text that anybody could choose. Doing any of them twice does no harm.
//
// Add-BitLockerKeyProtector shows the new recovery key as a warning: that is kept quiet, so
// that no transcript has it.

const oldVolume = `$v = @(Get-BitLockerVolume)
if (@($v | Where-Object { $_.LockStatus -eq 'Locked' }).Count) { throw 'a volume is locked: nobody can tell what is on it' }
$v = @($v | Where-Object { $_.KeyProtector.KeyProtectorId -contains $old })`

// addCommands add a protector beside the old one and have it escrowed. One that an earlier
// attempt added and did not get escrowed is used instead of a further one. It prints "NEW {ID}",
// or "GONE" if no volume has the old one.
func addCommands(old bitlocker.KeyID, known []bitlocker.KeyID) string {
	ids := []string{braced(old)}
	for _, id := range known {
		if id != old {
			ids = append(ids, braced(id))
		}
	}
	return `& {
$ErrorActionPreference = 'Stop'
$old = ` + braced(old) + `
$known = @(` + strings.Join(ids, ", ") + `)
` + oldVolume + `
if ($v.Count -eq 0) { 'GONE'; return }
$m = $v[0].MountPoint
$fresh = { @((Get-BitLockerVolume -MountPoint $m).KeyProtector | Where-Object { $_.KeyProtectorType -eq 'RecoveryPassword' -and $known -notcontains $_.KeyProtectorId }) }
$new = @(& $fresh)
if ($new.Count -eq 0) {
  Add-BitLockerKeyProtector -MountPoint $m -RecoveryPasswordProtector -WarningAction SilentlyContinue | Out-Null
  $new = @(& $fresh)
}
# Joined to Entra ID and not to a domain: BackupToAAD-BitLockerKeyProtector instead.
Backup-BitLockerKeyProtector -MountPoint $m -KeyProtectorId $new[0].KeyProtectorId | Out-Null
'NEW ' + $new[0].KeyProtectorId
}`
}

// removeCommands remove the old protector if the new one is on the same volume. It prints
// "DEAD {ID}" if no volume has the old one any more.
func removeCommands(old, new bitlocker.KeyID) string {
	return `& {
$ErrorActionPreference = 'Stop'
$old = ` + braced(old) + `
$new = ` + braced(new) + `
` + oldVolume + `
foreach ($x in $v) {
  if (@($x.KeyProtector | Where-Object { $_.KeyProtectorId -eq $new -and $_.KeyProtectorType -eq 'RecoveryPassword' }).Count -ne 1) { throw 'the new protector is not on this volume: nothing was removed' }
  Remove-BitLockerKeyProtector -MountPoint $x.MountPoint -KeyProtectorId $old | Out-Null
}
` + oldVolume + `
if ($v.Count -eq 0) { 'DEAD ' + $old } else { throw 'the old protector is still there' }
}`
}

func braced(id bitlocker.KeyID) string { return "'{" + id.String() + "}'" }

// parseAdded reads what addCommands print. The error does not repeat it: it comes from a host.
func parseAdded(out string) (id bitlocker.KeyID, gone bool, err error) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "GONE" {
			gone = true
		}
		if text, ok := strings.CutPrefix(line, "NEW "); ok {
			if id, err = bitlocker.ParseKeyID(text); err != nil {
				return id, false, fmt.Errorf("cannot tell which protector the host has added: %w", err)
			}
		}
	}
	if gone == !id.IsZero() {
		return bitlocker.KeyID{}, false, errors.New("cannot tell from the answer of the host whether it has added a protector")
	}
	return id, gone, nil
}

// parseRemoved says whether removeCommands have said that the old protector is gone.
func parseRemoved(out string, old bitlocker.KeyID) bool {
	for line := range strings.Lines(out) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "DEAD ")
		if id, err := bitlocker.ParseKeyID(text); ok && err == nil && id == old {
			return true
		}
	}
	return false
}
