# Says how a hypervisor stands, and changes nothing. $id is the virtual machine that all is told
# of, $copy a file of which is told whether it is there.
$all = @(Get-VM)
$vms = @(foreach ($vm in $all) {
    $drives = @(Get-VMHardDiskDrive -VM $vm | ForEach-Object {
        @{
            type         = [string]$_.ControllerType
            number       = [int]$_.ControllerNumber
            location     = [int]$_.ControllerLocation
            path         = [string]$_.Path
            disk         = [string]$_.DiskNumber
            reservations = [bool]$_.SupportPersistentReservations
            max          = [string]$_.MaximumIOPS
            min          = [string]$_.MinimumIOPS
            qos          = [string]$_.QoSPolicyID
        }
    })
    $dvds = @(Get-VMDvdDrive -VM $vm | ForEach-Object { [int]$_.ControllerLocation })
    @{
        id          = [string]$vm.Id
        name        = [string]$vm.Name
        state       = [string]$vm.State
        generation  = [int]$vm.Generation
        clustered   = [bool]$vm.IsClustered
        replication = [string]$vm.ReplicationState
        scsi        = @(Get-VMScsiController -VM $vm).Count
        drives      = $drives
        dvds        = $dvds
    }
})
$detail = $null
$one = @($all | Where-Object { [string]$_.Id -eq $id })
if ($one.Count -eq 1) {
    $vm = $one[0]
    $boot = @()
    if ($vm.Generation -eq 2) {
        $boot = @((Get-VMFirmware -VM $vm).BootOrder | ForEach-Object {
            $kind = [string]$_.BootType
            $key = [string]$_.FirmwarePath
            if ($kind -eq 'Drive') {
                $key = '{0}:{1}:{2}' -f [string]$_.Device.ControllerType, [int]$_.Device.ControllerNumber, [int]$_.Device.ControllerLocation
            }
            if ($kind -eq 'Network') {
                $key = [string]$_.Device.Id
            }
            @{ kind = $kind; key = $key }
        })
    }
    $shielded = $false
    $tpm = $false
    if (Get-Command -Name Get-VMSecurity -ErrorAction SilentlyContinue) {
        $security = Get-VMSecurity -VM $vm
        $shielded = [bool]$security.Shielded
        $tpm = [bool]$security.TpmEnabled
    }
    $detail = @{
        checkpoints = @(Get-VMSnapshot -VM $vm).Count
        shielded    = $shielded
        tpm         = $tpm
        boot        = $boot
        copy        = [bool]($copy -and (Test-Path -LiteralPath $copy))
    }
}
$answer = @{ computer = [string]$env:COMPUTERNAME; vms = $vms; detail = $detail }
$json = ConvertTo-Json -InputObject $answer -Depth 6 -Compress
'unbrick:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)) + ':unbrick'
