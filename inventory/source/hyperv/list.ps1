# Lists the virtual machines of a hypervisor.
$vms = @(Get-VM | ForEach-Object {
    $vm = $_
    $bios = Get-CimInstance -Namespace root/virtualization/v2 -ClassName Msvm_VirtualSystemSettingData -Filter ("VirtualSystemIdentifier='{0}' AND VirtualSystemType='Microsoft:Hyper-V:System:Realized'" -f ([string]$vm.Id).ToUpper())
    @{
        id        = [string]$vm.Id
        name      = [string]$vm.Name
        state     = [string]$vm.State
        notes     = [string]$vm.Notes
        heartbeat = [string]$vm.Heartbeat
        uuid      = [string]$bios.BIOSGUID
        serial    = [string]$bios.BIOSSerialNumber
        clustered = [bool]$vm.IsClustered
        macs      = @(Get-VMNetworkAdapter -VM $vm | ForEach-Object { [string]$_.MacAddress })
    }
})
$answer = @{ computer = [string]$env:COMPUTERNAME; vms = $vms }
$json = ConvertTo-Json -InputObject $answer -Depth 5 -Compress
'unbrick:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)) + ':unbrick'
