package csv

import "strings"

// An alias is a header of somebody else's export that stands for one of our fields.
type alias struct {
	header string // folded by key
	field  string
	from   string // who writes it
}

// aliases are the headers that are recognised. Where a file has several for one field the one
// further up wins. Headers of the portals are as their CSV downloads have them; the Graph and
// Falcon names are those of the API's fields, the ConfigMgr names those of the views
// v_R_System, v_GS_PC_BIOS and of Get-CMDevice.
//
// Left out on purpose: Falcon's external IP and Intune's Wi-Fi address (not where Windows
// answers from here), AD's ObjectGUID, Intune's device ids and ConfigMgr's SMSID (no SMBIOS
// UUIDs), ServiceNow's business criticality (its scale is not ours).
var aliases = []alias{
	{"hostname", "name", "Falcon, ServiceNow"},
	{"devicename", "name", "Intune, Graph"},
	{"computername", "name", "AD reports, Falcon event search"},
	{"netbiosname0", "name", "ConfigMgr view"},
	{"name0", "name", "ConfigMgr view"},
	{"netbiosname", "name", "ConfigMgr"},
	{"host", "name", "common"},
	{"computer", "name", "common"},
	{"server", "name", "common"},
	{"servername", "name", "common"},
	{"cn", "name", "AD (ldifde, csvde)"},

	{"serialnumber", "serial", "ServiceNow, Intune, Falcon, ConfigMgr"},
	{"serialnumber0", "serial", "ConfigMgr view"},
	{"servicetag", "serial", "Dell"},
	{"biosserialnumber", "serial", "common"},
	{"systemserialnumber", "serial", "Falcon"},

	{"smbiosguid", "uuid", "ConfigMgr"},
	{"smbiosguid0", "uuid", "ConfigMgr view"},
	{"smbiosuuid", "uuid", "common"},
	{"biosuuid", "uuid", "common"},
	{"systemuuid", "uuid", "common"},
	{"netbootguid", "uuid", "AD"},

	{"macaddress", "mac", "ServiceNow, Falcon, ConfigMgr"},
	{"macaddresses", "mac", "ConfigMgr"},
	{"macaddresses0", "mac", "ConfigMgr view"},
	{"ethernetmac", "mac", "Intune"},
	{"ethernetmacaddress", "mac", "Graph"},
	{"wifimac", "mac", "Intune"},
	{"wifimacaddress", "mac", "Graph"},

	{"fqdn", "address", "ServiceNow"},
	{"fullyqualifieddomainname", "address", "ServiceNow"},
	{"dnshostname", "address", "AD"},
	{"dnsname", "address", "common"},
	{"ipaddress", "address", "ServiceNow"},
	{"ip", "address", "common"},
	{"ipv4address", "address", "AD"},
	{"ipaddresses", "address", "ConfigMgr"},
	{"ipaddresses0", "address", "ConfigMgr view"},
	{"localip", "address", "Falcon"},

	{"sitename", "site", "Falcon"},
	{"adsitename", "site", "ConfigMgr"},
	{"adsitename0", "site", "ConfigMgr view"},
	{"location", "site", "ServiceNow, AD"},
	{"locationname", "site", "ServiceNow"},
	{"office", "site", "common"},

	{"countrycode", "country", "common"},
	{"locationcountry", "country", "ServiceNow (location.country)"},

	{"tz", "timezone", "common"},
	{"locationtimezone", "timezone", "ServiceNow (location.time_zone)"},

	{"cluster", "group", "common"},
	{"clustername", "group", "common"},

	{"opening", "opens", "common"},
	{"openinghours", "opens", "common"},

	{"installstatus", "state", "ServiceNow"},
	{"lifecyclestage", "state", "ServiceNow"},
	{"lifecyclestatus", "state", "common"},
	{"assetstatus", "state", "common"},
	{"assetstate", "state", "common"},
	{"statuslabel", "state", "Snipe-IT"},
	{"status", "state", "Snipe-IT, NetBox, GLPI"},

	{"lastseen", "seen", "Falcon"},
	{"lastdiscovered", "seen", "ServiceNow"},
	{"mostrecentdiscovery", "seen", "ServiceNow"},
	{"lastcheckin", "seen", "Intune"},
	{"lastsyncdatetime", "seen", "Graph"},
	{"approximatelastsignindatetime", "seen", "Graph"},
	{"lastlogondate", "seen", "AD"},
	{"lastlogontimestamp", "seen", "AD reports"},

	{"bmc", "redfish", "common"},
	{"idrac", "redfish", "Dell"},
	{"ilo", "redfish", "HPE"},
	{"xcc", "redfish", "Lenovo"},
	{"instanceid", "ec2", "AWS"},
}

// secretWords are parts of a header that stands over secrets.
var secretWords = []string{
	"password", "passwd", "passwort", "kennwort", "motdepasse", "contraseña", "contrasena", "passphrase",
	"pwd", "secret", "recoverykey", "bitlockerkey", "apikey", "accesskey", "privatekey", "credential",
	"token", "admpwd", "lapspass",
}

// harmless are headers that name a secret and hold none: AD's account fields, ids and dates.
var harmless = map[string]bool{
	"passwordlastset": true, "passwordexpired": true, "passwordneverexpires": true,
	"passwordnotrequired": true, "pwdlastset": true, "badpwdcount": true, "badpasswordtime": true,
	"lastbadpasswordattempt": true, "cannotchangepassword": true, "passwordage": true,
	"allowreversiblepasswordencryption": true, "msmcsadmpwdexpirationtime": true,
	"mslapspasswordexpirationtime": true, "lapspasswordexpirationtime": true, "recoverykeyid": true,
	"bitlockerrecoverykeyid": true, "recoverypasswordid": true, "bootstraptokenescrowed": true,
}

// looksSecret says that a column with this header must not be read.
func looksSecret(header string) bool {
	k := key(header)
	if harmless[k] || strings.Contains(k, "credentialguard") || strings.Contains(k, "secretar") {
		return false
	}
	for _, w := range secretWords {
		if strings.Contains(k, w) {
			return true
		}
	}
	return k == "pin" || k == "pw" || k == "pass" || k == "laps"
}
