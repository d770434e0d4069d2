# Looks for faulty files in the Windows that runs, moves them out of the way, looks again, and
# prints what it saw. PowerShell 3 and later. The job is JSON in base64; so is the answer.
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$job = ConvertFrom-Json ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('@JOB@')))
$base = "$env:SystemDrive\ProgramData\unbrick"

# Read-File reads one file while nobody can write to it.
function Read-File([string]$path, [int]$length) {
  $s = New-Object IO.FileStream($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::Read)
  try {
    $sha = New-Object Security.Cryptography.SHA256CryptoServiceProvider
    $sum = $sha.ComputeHash($s)
    $head = New-Object byte[] $length
    $s.Position = 0
    $n = 0
    while ($n -lt $length) {
      $got = $s.Read($head, $n, $length - $n)
      if ($got -eq 0) { break }
      $n += $got
    }
    @{
      path = $path; size = $s.Length; time = [string][IO.File]::GetLastWriteTimeUtc($path).Ticks
      sha256 = [BitConverter]::ToString($sum).Replace('-', '').ToLowerInvariant()
      head = [BitConverter]::ToString($head, 0, $n).Replace('-', '')
    }
  } finally { $s.Dispose() }
}

function Test-Link([string]$path) {
  ([IO.File]::GetAttributes($path) -band [IO.FileAttributes]::ReparsePoint) -ne 0
}

# Get-Directory returns the step's directory, or nothing. It follows no link.
function Get-Directory($step) {
  $dir = $env:SystemRoot
  foreach ($name in $step.directory.Split('/')) {
    $found = @([IO.Directory]::GetDirectories($dir) | Where-Object { [IO.Path]::GetFileName($_) -ieq $name })
    if ($found.Count -eq 0) { return '' }
    $dir = $found[0]
    if (Test-Link $dir) { throw "$dir is a link: it is not followed" }
  }
  $dir
}

# Get-Seen says how one step stands: what is in place, and what was moved before.
function Get-Seen($step) {
  $dir = Get-Directory $step
  $length = $step.header.Length / 2
  $files = @()
  $kept = @()
  if ($dir -ne '') {
    foreach ($path in [IO.Directory]::GetFileSystemEntries($dir)) {
      if (-not [regex]::IsMatch([IO.Path]::GetFileName($path), $step.match)) { continue }
      if ((Test-Link $path) -or [IO.Directory]::Exists($path)) { throw "$path is not a plain file" }
      $files += Read-File $path $length
    }
  }
  if ([IO.Directory]::Exists($step.keep)) {
    foreach ($path in [IO.Directory]::GetFiles($step.keep)) {
      $kept += Read-File $path $length
    }
  }
  @{ there = ($dir -ne ''); dir = $dir; files = $files; kept = $kept }
}

# Test-Faulty decides as the playbook does.
function Test-Faulty($file, $step) {
  if ($file.head -ne $step.header) { return $false }
  if (@($step.sha256) -contains $file.sha256) { return $true }
  if ($step.from -eq '') { return $false }
  ([long]$file.time -ge [long]$step.from) -and ([long]$file.time -lt [long]$step.until)
}

# Move-Away moves a file on its own volume, which keeps its content and its times, and moves it
# back if it is not what was decided on.
function Move-Away($file, $step) {
  [void][IO.Directory]::CreateDirectory($step.keep)
  $name = [IO.Path]::GetFileName($file.path)
  $n = 1
  while ([IO.Directory]::GetFiles($step.keep, "$n~*").Length -gt 0) { $n++ }
  $to = "$($step.keep)\$n~$name"
  [IO.File]::Move($file.path, $to)
  $now = Read-File $to 0
  if ($now.sha256 -ne $file.sha256 -or $now.time -ne $file.time) {
    [IO.File]::Move($to, $file.path)
    throw "$($file.path) changed while it was looked at: it was put back"
  }
}

$answer = @{ root = $env:SystemRoot; error = ''; steps = @() }
try {
  if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) { throw '32-bit PowerShell sees another System32' }
  $fresh = -not [IO.Directory]::Exists($base)
  $todo = @()
  foreach ($step in @($job.steps)) {
    $step.keep = "$base\$($job.id)\$($step.keep)"
    $seen = Get-Seen $step
    # Cut off between a move and its check: what does not belong there goes back.
    foreach ($file in $seen.kept) {
      $from = $seen.dir + '\' + ([IO.Path]::GetFileName($file.path) -replace '^\d+~', '')
      if (-not (Test-Faulty $file $step) -and $seen.there -and -not [IO.File]::Exists($from)) { [IO.File]::Move($file.path, $from) }
    }
    $faulty = @($seen.files | Where-Object { Test-Faulty $_ $step })
    if ($faulty.Count -gt $step.max) { throw "$($faulty.Count) files are faulty and at most $($step.max) are expected: nothing is moved" }
    foreach ($file in $faulty) { $todo += @{ file = $file; step = $step } }
  }
  if ($todo.Count -gt 0) {
    [void][IO.Directory]::CreateDirectory("$base\$($job.id)")
    if (Test-Link $base) { throw "$base is a link: it is not followed" }
    if ($fresh) { [void](& "$env:SystemRoot\System32\icacls.exe" $base /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F') }
    foreach ($t in $todo) { Move-Away $t.file $t.step }
    # To the disk, with what NTFS logged before it: the host may crash in a moment.
    $log = New-Object IO.FileStream("$base\$($job.id)\moved.txt", [IO.FileMode]::Append, [IO.FileAccess]::Write)
    try {
      foreach ($t in $todo) {
        $line = [Text.Encoding]::UTF8.GetBytes("$($t.file.sha256) $($t.file.path)`r`n")
        $log.Write($line, 0, $line.Length)
      }
      $log.Flush($true)
    } finally { $log.Dispose() }
  }
  foreach ($step in @($job.steps)) { $answer.steps += Get-Seen $step }
} catch { $answer.error = [string]$_ }
$json = ConvertTo-Json $answer -Depth 6 -Compress
[Console]::Out.WriteLine('unbrick:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)) + ':unbrick')
exit 0
