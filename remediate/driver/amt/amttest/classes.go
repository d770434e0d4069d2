package amttest

import (
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	bootConfig = "Intel(r) AMT: Boot Configuration 0"
	bootData   = "Intel(r) AMT:BootSettingData 0"
)

// A field is one property; a name may come more than once.
type field struct{ name, value string }

// An instance is one of a class, in the order in which firmware sends its properties.
type instance struct {
	class  string // as it names itself, which may be a subclass of what was asked for
	base   string // namespace without the class
	keys   []string
	fields []field
	raw    string // further properties, as XML
}

func (i instance) get(name string) string {
	for _, f := range i.fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// matches says whether the selectors name this instance. None name any.
func (i instance) matches(selectors map[string]string) bool {
	for name, value := range selectors {
		if i.get(name) != value {
			return false
		}
	}
	return true
}

// xml returns the instance as an element.
func (i instance) xml() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<h:%s xmlns:h="%s%s">`, i.class, i.base, i.class)
	for _, f := range i.fields {
		fmt.Fprintf(&b, `<h:%s>%s</h:%s>`, f.name, escape(f.value), f.name)
	}
	fmt.Fprintf(&b, `%s</h:%s>`, i.raw, i.class)
	return b.String()
}

// epr returns the instance's endpoint reference.
func (i instance) epr() string {
	var b strings.Builder
	for _, k := range i.keys {
		fmt.Fprintf(&b, `<c:Selector Name="%s">%s</c:Selector>`, k, escape(i.get(k)))
	}
	return reference("b:EndpointReference", i.base+i.class, b.String())
}

func reference(element, resource, selectors string) string {
	return fmt.Sprintf(`<%s><b:Address>%s</b:Address><b:ReferenceParameters><c:ResourceURI>%s</c:ResourceURI><c:SelectorSet>%s</c:SelectorSet></b:ReferenceParameters></%s>`,
		element, anonymous, resource, selectors, element)
}

func boolean(b bool) string { return fmt.Sprint(b) }

func serviceKeys() []string {
	return []string{"CreationClassName", "Name", "SystemCreationClassName", "SystemName"}
}

func service(base, class, name string, more ...field) instance {
	return instance{class: class, base: base, keys: serviceKeys(), fields: append([]field{
		{"CreationClassName", class}, {"ElementName", name}, {"Name", name},
		{"SystemCreationClassName", "CIM_ComputerSystem"}, {"SystemName", "Intel(r) AMT"},
	}, more...)}
}

// instances returns all of a class, or nil if this firmware does not know it. The caller
// holds mu.
func (a *AMT) instances(class string) []instance {
	switch class {
	case "CIM_BootService":
		return []instance{service(cim, class, "Intel(r) AMT Boot Service", field{"EnabledState", "2"}, field{"RequestedState", "12"})}
	case "CIM_PowerManagementService":
		return []instance{service(cim, class, "Intel(r) AMT Power Management Service", field{"EnabledState", "5"}, field{"RequestedState", "12"})}
	case "CIM_ServiceAvailableToElement", "CIM_AssociatedPowerManagementService":
		return []instance{a.powerService()}
	case "CIM_BootConfigSetting":
		return []instance{{class: class, base: cim, keys: []string{"InstanceID"}, fields: []field{
			{"ElementName", "Intel(r) AMT: Boot Configuration"}, {"InstanceID", bootConfig},
		}}}
	case "CIM_BootSourceSetting":
		return a.sources()
	case "CIM_ComputerSystem":
		return a.computers()
	case "CIM_ComputerSystemPackage":
		return []instance{{class: class, base: cim, fields: []field{{"PlatformGUID", a.platformGUID()}}}}
	case "CIM_Chassis":
		return []instance{{class: class, base: cim, keys: []string{"CreationClassName", "Tag"}, fields: []field{
			{"CreationClassName", class}, {"ElementName", "Managed System Chassis"}, {"Manufacturer", "unbrick"},
			{"Model", "amttest"}, {"SerialNumber", a.opt.Serial}, {"Tag", class},
		}}}
	case "CIM_SoftwareIdentity":
		return []instance{{class: class, base: cim, keys: []string{"InstanceID"}, fields: []field{
			{"InstanceID", "AMT"}, {"IsEntity", "true"}, {"VersionString", a.opt.Version},
		}}}
	case "AMT_BootCapabilities":
		return []instance{a.capabilities()}
	case "AMT_BootSettingData":
		return []instance{a.bootSettings()}
	case "AMT_GeneralSettings":
		return []instance{{class: class, base: amt, keys: []string{"InstanceID"}, fields: []field{
			{"DigestRealm", a.realm}, {"ElementName", "Intel(r) AMT: General Settings"}, {"HostName", "amt"},
			{"InstanceID", "Intel(r) AMT: General Settings"}, {"NetworkInterfaceEnabled", "true"},
		}}}
	case "AMT_SetupAndConfigurationService":
		mode := "1"
		if a.opt.ClientControl {
			mode = "4"
		}
		return []instance{service(amt, class, "Intel(r) AMT Setup and Configuration Service",
			field{"ProvisioningMode", mode}, field{"ProvisioningState", "2"})}
	case "IPS_OptInService":
		return []instance{a.optIn()}
	case "AMT_PublicKeyCertificate":
		return a.roots()
	}
	return nil
}

func (a *AMT) powerService() instance {
	i := instance{class: "CIM_AssociatedPowerManagementService", base: cim}
	states, now := []string{"10", "8", "5"}, stateOn
	if !a.on {
		states, now = []string{"2"}, stateOff
	}
	for _, s := range states {
		i.fields = append(i.fields, field{"AvailableRequestedPowerStates", s})
	}
	i.fields = append(i.fields, field{"PowerState", fmt.Sprint(now)})
	i.raw = reference("h:ServiceProvided", cim+"CIM_PowerManagementService", `<c:Selector Name="Name">Intel(r) AMT Power Management Service</c:Selector>`) +
		reference("h:UserOfService", cim+"CIM_ComputerSystem", `<c:Selector Name="CreationClassName">CIM_ComputerSystem</c:Selector><c:Selector Name="Name">ManagedSystem</c:Selector>`)
	return i
}

func (a *AMT) computers() (all []instance) {
	for _, name := range []string{"Intel(r) AMT", "ManagedSystem"} {
		all = append(all, instance{class: "CIM_ComputerSystem", base: cim, keys: []string{"CreationClassName", "Name"}, fields: []field{
			{"CreationClassName", "CIM_ComputerSystem"}, {"ElementName", name}, {"Name", name},
		}})
	}
	return all
}

func (a *AMT) sources() (all []instance) {
	add := func(id, structured, bios string) {
		i := instance{class: "CIM_BootSourceSetting", base: cim, keys: []string{"InstanceID"}, fields: []field{
			{"ElementName", "Intel(r) AMT: Boot Source"}, {"FailThroughSupported", "2"}, {"InstanceID", id}, {"StructuredBootString", structured},
		}}
		if bios != "" {
			i.fields = append([]field{{"BIOSBootString", bios}, {"BootString", ""}}, i.fields...)
		}
		all = append(all, i)
	}
	add(SourceDisk, "CIM:Hard-Disk:1", "")
	if !a.opt.NoPXE {
		add(SourcePXE, "CIM:Network:1", "")
	}
	add(SourceCD, "CIM:CD/DVD:1", "")
	if a.opt.recovery() && !a.opt.NoHTTPSBoot {
		add(SourceHTTPS, "INTEL:UEFI:HTTPS:1", "HTTPS Boot")
	}
	if a.opt.recovery() && !a.opt.NoWinRE {
		add(SourceWinRE, "INTEL:UEFI:OCR:1", "WinRe")
	}
	return all
}

func (a *AMT) capabilities() instance {
	i := instance{class: "AMT_BootCapabilities", base: amt, keys: []string{"InstanceID"}, fields: []field{
		{"BIOSSecureBoot", "true"}, {"BIOSSetup", "true"}, {"ElementName", "Intel(r) AMT: Boot Capabilities"},
		{"ForceCDorDVDBoot", "true"}, {"ForceHardDriveBoot", "true"}, {"ForcePXEBoot", boolean(!a.opt.NoPXE)},
	}}
	if a.opt.recovery() {
		i.fields = append(i.fields, field{"AMTSecureBootControl", "true"}, field{"ForceUEFIHTTPSBoot", "true"},
			field{"ForceUEFIPBABoot", "true"}, field{"ForceWinREBoot", "true"})
	}
	i.fields = append(i.fields, field{"IDER", "true"}, field{"InstanceID", "Intel(r) AMT:BootCapabilities 0"}, field{"SOL", "true"})
	return i
}

func (a *AMT) bootSettings() instance {
	i := instance{class: "AMT_BootSettingData", base: amt, keys: []string{"InstanceID"}, fields: []field{
		{"BIOSLastStatus", "0"}, {"BIOSLastStatus", "0"}, {"BIOSPause", "false"}, {"BIOSSetup", boolean(a.settings.special == "BIOSSetup")},
		{"BootMediaIndex", "0"}, {"BootguardStatus", "127"}, {"ConfigurationDataReset", "false"},
		{"ElementName", "Intel(r) AMT Boot Configuration Settings"}, {"EnforceSecureBoot", boolean(a.settings.enforceSecure)},
		{"FirmwareVerbosity", "0"}, {"ForcedProgressEvents", "false"}, {"IDERBootDevice", "0"}, {"InstanceID", bootData},
		{"OptionsCleared", boolean(a.cleared)}, {"OwningEntity", "Intel(r) AMT"}, {"RSEPassword", ""},
		{"UseIDER", boolean(a.settings.special == "UseIDER")}, {"UseSOL", boolean(a.settings.special == "UseSOL")},
	}}
	if a.opt.recovery() {
		i.fields = append(i.fields, field{"SecureBootControlEnabled", "true"},
			field{"UEFIHTTPSBootEnabled", boolean(!a.opt.NoHTTPSBoot)}, field{"UEFILocalPBABootEnabled", "true"},
			field{"UefiBootNumberOfParams", fmt.Sprint(a.settings.count)}, field{"WinREBootEnabled", boolean(!a.opt.NoWinRE)})
	}
	return i
}

func (a *AMT) optIn() instance {
	required, state := "0", "0"
	if a.opt.ClientControl || a.opt.AskConsent {
		required = "4294967295"
	}
	if a.opt.Consented {
		state = "3" // received
	}
	return service(ips, "IPS_OptInService", "Intel(r) AMT OptIn Service",
		field{"CanModifyOptInPolicy", "1"}, field{"OptInCodeTimeout", "120"}, field{"OptInRequired", required}, field{"OptInState", state})
}

func (a *AMT) roots() []instance {
	all := []instance{}
	for n, c := range a.opt.Roots {
		all = append(all, instance{class: "AMT_PublicKeyCertificate", base: amt, keys: []string{"InstanceID"}, fields: []field{
			{"ElementName", "Intel(r) AMT Certificate"}, {"InstanceID", fmt.Sprintf("Intel(r) AMT Certificate: Handle: %d", n)},
			{"Issuer", c.Issuer.String()}, {"ReadOnlyCertificate", "false"}, {"Subject", c.Subject.String()},
			{"TrustedRootCertficate", "true"}, // as firmware misspells it
			{"X509Certificate", base64.StdEncoding.EncodeToString(c.Raw)},
		}})
	}
	return all
}

// platformGUID returns the UUID as AMT prints it: the bytes of SMBIOS, where the first three
// fields are little endian, in hex without hyphens.
func (a *AMT) platformGUID() string {
	f := strings.Split(strings.ToUpper(a.opt.UUID), "-")
	if len(f) != 5 {
		return strings.Repeat("0", 32)
	}
	for i := range 3 {
		var b strings.Builder
		for j := len(f[i]) - 2; j >= 0; j -= 2 {
			b.WriteString(f[i][j : j+2])
		}
		f[i] = b.String()
	}
	return strings.Join(f, "")
}
