package redfishtest

// A Model is a make of BMC with its quirks. The zero value of a quirk is what the standard
// says. The sources of the quirks are sushy, Ironic, bmclib, Ansible's Redfish modules and
// the issue threads of those.
type Model struct {
	Name         string
	Manufacturer string // of the system
	Product      string // of the system
	Generation   string // Model of the manager
	Firmware     string
	SystemID     string
	ManagerID    string

	Slots       []Slot
	PatchInsert bool // no actions: media is inserted and ejected by PATCH, which must carry Inserted
	BareImage   bool // refuses Inserted and WriteProtected
	EjectBody   bool // refuses an eject without a JSON body
	NeedProto   bool // insists on TransferProtocolType
	NeedUser    bool // insists on UserName and Password
	KeepsImage  bool // after an eject all is as before but ConnectedVia
	Accepts     bool // answers 202 without body or Location, where others answer 204

	Targets       []string // what the override's target may be
	Mode          string   // boot mode: UEFI if empty
	MediaTarget   string   // the target that boots virtual media; empty: only the attribute does
	BootAttribute bool     // virtual media boots by the manager's attribute ServerBoot.1
	ImportProfile bool     // the same, by the import of a server profile
	HideAllowable bool     // says nowhere which targets and reset types there are
	ResetInfo     bool     // says which reset types there are in an ActionInfo resource
	WholeBoot     bool     // ignores a PATCH of Boot without target, enabled and mode
	NeedEnabled   bool     // refuses a PATCH of Boot without enabled
	ForgetsMode   bool     // a PATCH of Boot without mode makes it Legacy: the image does not boot
	RefusesSame   bool     // refuses a PATCH of Enabled to the value that it has

	ResetTypes   []string
	OnRefusals   int // this many On after a power off are answered 409
	PostRefusals int // this many changes after a start are answered UnableToModifyDuringSystemPOST

	ETag        ETag
	MaxSessions int    // 8 if 0
	NoSessions  bool   // 405 to a login: Basic alone
	FullMessage string // message id when the table is full
	NoLicence   string // message id when Options.Unlicensed
}

// A Slot is a place for virtual media.
type Slot struct {
	ID      string
	Manager bool // under Managers, else under Systems
	Types   []string
	NoURL   bool // has no insert action: for a browser or a physical drive
	Refuses bool // has one, and answers 400
	NoBoot  bool // takes an image, but firmware never boots it
}

// An ETag says how a BMC handles entity tags.
type ETag int

// How a BMC handles entity tags.
const (
	NoETag       ETag = iota // sends none, ignores If-Match
	StrongETag               // 412 to an If-Match that is not the tag
	WeakETag                 // sends W/"x" and takes only "x": 412 otherwise
	RequiredETag             // as StrongETag, and 428 to a change without If-Match
)

var (
	allResets = []string{"On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PushPowerButton", "Nmi"}
	discTypes = []string{"CD", "DVD"}
)

// Models returns every model there is, one for each row of quirks.
func Models() []Model {
	return []Model{
		Generic(), IDRAC8(), IDRAC9Old(), IDRAC9(), IDRAC10(), ILO5(), XCC(), Supermicro(), OpenBMC(), AMI(), CiscoUCS(),
	}
}

// Generic is a BMC that does what the standard says.
func Generic() Model {
	return Model{
		Name: "Generic", Manufacturer: "Contoso", Product: "3500", Generation: "BMC", Firmware: "1.0",
		SystemID: "1", ManagerID: "BMC",
		Slots:   []Slot{{ID: "CD1", Types: discTypes}},
		Targets: []string{"None", "Pxe", "Cd", "Usb", "Hdd"}, MediaTarget: "Cd",
		ResetTypes: allResets,
	}
}

func dell(name, product, generation, firmware string) Model {
	return Model{
		Name: name, Manufacturer: "Dell Inc.", Product: product, Generation: generation, Firmware: firmware,
		SystemID: "System.Embedded.1", ManagerID: "iDRAC.Embedded.1",
		Targets:     []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Utilities", "UefiTarget", "SDCard", "UefiHttp"},
		ResetTypes:  []string{"On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PushPowerButton", "Nmi", "PowerCycle"},
		FullMessage: "IDRAC.2.8.RAC0218", NoLicence: "IDRAC.2.8.LIC501",
	}
}

// IDRAC8 is an iDRAC 8: no sessions, media under the manager, Cd means the drive with a tray,
// and only an imported server profile boots virtual media.
func IDRAC8() Model {
	m := dell("iDRAC8", "PowerEdge R730", "13G Monolithic", "2.86.86.86")
	m.Slots = []Slot{{ID: "RemovableDisk", Manager: true, Types: []string{"USBStick"}}, {ID: "CD", Manager: true, Types: discTypes}}
	m.ImportProfile, m.NoSessions = true, true
	return m
}

// IDRAC9Old is an iDRAC 9 before firmware 6: Cd means the drive with a tray.
func IDRAC9Old() Model {
	m := dell("iDRAC9-4", "PowerEdge R640", "14G Monolithic", "4.40.00.00")
	m.Slots = []Slot{{ID: "RemovableDisk", Manager: true, Types: []string{"USBStick"}}, {ID: "CD", Manager: true, Types: discTypes}}
	m.BootAttribute = true
	return m
}

// IDRAC9 is an iDRAC 9 with media under the system and under the manager.
func IDRAC9() Model {
	m := dell("iDRAC9", "PowerEdge R650", "15G Monolithic", "7.10.30.00")
	m.Slots = []Slot{
		{ID: "1", Types: discTypes}, {ID: "2", Types: discTypes},
		{ID: "RemovableDisk", Manager: true, Types: []string{"USBStick"}}, {ID: "CD", Manager: true, Types: discTypes},
	}
	m.MediaTarget, m.ETag = "Cd", StrongETag
	return m
}

// IDRAC10 is an iDRAC 10: its version numbers begin again, only slot 1 boots.
func IDRAC10() Model {
	m := dell("iDRAC10", "PowerEdge R770", "17G Monolithic", "1.20.25.00")
	m.Slots = []Slot{{ID: "1", Types: discTypes}, {ID: "2", Types: discTypes, NoBoot: true}}
	m.MediaTarget, m.HideAllowable, m.OnRefusals = "Cd", true, 2
	return m
}

// ILO5 is an HPE iLO 5: eject needs a body, and nothing can be changed during POST.
func ILO5() Model {
	return Model{
		Name: "iLO5", Manufacturer: "HPE", Product: "ProLiant DL380 Gen10", Generation: "iLO 5", Firmware: "iLO 5 v2.78",
		SystemID: "1", ManagerID: "1",
		Slots: []Slot{
			{ID: "1", Manager: true, Types: []string{"Floppy", "USBStick"}}, {ID: "2", Manager: true, Types: discTypes},
		},
		EjectBody:   true,
		Targets:     []string{"None", "Cd", "Hdd", "Usb", "SDCard", "Utilities", "Diags", "BiosSetup", "Pxe", "UefiShell", "UefiHttp", "UefiTarget"},
		MediaTarget: "Cd", ResetTypes: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PushPowerButton", "GracefulRestart"},
		PostRefusals: 1, ETag: WeakETag,
		FullMessage: "iLO.2.14.MaxSessions", NoLicence: "iLO.2.14.LicenseKeyRequired",
	}
}

// XCC is a Lenovo XClarity Controller: media by PATCH, and slots that refuse.
func XCC() Model {
	m := Model{
		Name: "XCC", Manufacturer: "Lenovo", Product: "ThinkSystem SR650", Generation: "Lenovo XClarity Controller", Firmware: "CDI385N 8.88",
		SystemID: "1", ManagerID: "1", PatchInsert: true,
		Targets: []string{"None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup", "Diags", "UefiTarget"}, MediaTarget: "Cd",
		ResetTypes: []string{"On", "Nmi", "GracefulShutdown", "GracefulRestart", "ForceOn", "ForceOff", "ForceRestart"},
		ETag:       StrongETag, MaxSessions: 16, NoLicence: "ExtendedError.1.2.InsufficientLicense",
	}
	for _, id := range []string{"RDOC1", "RDOC2", "Remote1", "Remote2", "Remote3", "Remote4"} {
		m.Slots = append(m.Slots, Slot{ID: id, Manager: true, Types: discTypes, Refuses: true})
	}
	for _, id := range []string{"EXT1", "EXT2", "EXT3", "EXT4"} {
		m.Slots = append(m.Slots, Slot{ID: id, Manager: true, Types: discTypes})
	}
	return m
}

// Supermicro is an X11 or X12: the image alone, UsbCd, Enabled and the mode every time.
func Supermicro() Model {
	return Model{
		Name: "Supermicro", Manufacturer: "Supermicro", Product: "X12DPi-N", Generation: "ASPEED", Firmware: "01.04.08",
		SystemID: "1", ManagerID: "1",
		Slots:     []Slot{{ID: "VirtualMedia1", Manager: true, Types: discTypes}, {ID: "VirtualMedia2", Manager: true, Types: discTypes}},
		BareImage: true, KeepsImage: true,
		Targets: []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "UsbCd", "UsbHdd"}, MediaTarget: "UsbCd",
		NeedEnabled: true, ForgetsMode: true,
		ResetTypes: []string{"On", "ForceOff", "GracefulShutdownGracefulRestart", "ForceRestart", "Nmi", "ForceOn"},
		NoLicence:  "SMC.1.0.OemLicenseNotPassed",
	}
}

// OpenBMC is bmcweb: its first slot is for a browser, its reset types are in an ActionInfo.
func OpenBMC() Model {
	return Model{
		Name: "OpenBMC", Manufacturer: "OpenBMC", Product: "Quanta S6Q", Generation: "OpenBmc", Firmware: "2.14.0",
		SystemID: "system", ManagerID: "bmc",
		Slots: []Slot{
			{ID: "Slot_0", Manager: true, Types: []string{"CD", "USBStick"}, NoURL: true},
			{ID: "Slot_1", Manager: true, Types: []string{"CD", "USBStick"}},
		},
		Targets: []string{"None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb"}, MediaTarget: "Cd",
		ResetInfo: true, ResetTypes: []string{"On", "ForceOff", "ForceOn", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle", "Nmi"},
		ETag: StrongETag, Accepts: true, MaxSessions: 64,
	}
}

// AMI is a MegaRAC: it ignores half a boot override, and insists on what nobody needs.
func AMI() Model {
	return Model{
		Name: "AMI", Manufacturer: "ASRockRack", Product: "ROMED8-2T", Generation: "AMI MegaRAC SP-X", Firmware: "13.02",
		SystemID: "Self", ManagerID: "Self",
		Slots:    []Slot{{ID: "CD1", Manager: true, Types: discTypes}},
		NeedUser: true, NeedProto: true, Accepts: true, WholeBoot: true,
		Targets: []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "Usb"}, MediaTarget: "Cd",
		ResetTypes: allResets, ETag: RequiredETag, MaxSessions: 4,
	}
}

// CiscoUCS is a CIMC: DVD and no CD, a slot that refuses, and no change to what is.
func CiscoUCS() Model {
	return Model{
		Name: "CiscoUCS", Manufacturer: "Cisco Systems Inc", Product: "UCSC-C220-M5", Generation: "CIMC", Firmware: "4.1(3b)",
		SystemID: "WZP1", ManagerID: "CIMC",
		Slots: []Slot{
			{ID: "0", Manager: true, Types: []string{"DVD"}, Refuses: true}, {ID: "1", Manager: true, Types: []string{"DVD"}},
		},
		Targets: []string{"None", "Pxe", "Hdd", "Cd"}, MediaTarget: "Cd", RefusesSame: true,
		ResetTypes: allResets, MaxSessions: 4,
	}
}
