#!/bin/sh
# unbrick: this machine is to work as a helper. The token below is good once, until {{.Expires}},
# for this machine alone. What it is exchanged for stays on this machine.
set -eu
umask 077
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
agent=/usr/local/bin/unbrick-agent
home=/var/lib/unbrick-helper
unit=/etc/systemd/system/unbrick-helper.service
new=
fail() { echo "unbrick: $*" >&2; exit 1; }
trap '[ -z "$new" ] || rm -f "$new"' EXIT

[ "$(id -u)" = 0 ] || fail "this has to run as root"
[ "$(uname -m)" = x86_64 ] || fail "the agent is for x86_64, and this machine is $(uname -m): take a helper of another type"
for program in curl flock sha256sum systemctl ntfs-3g; do
	command -v "$program" >/dev/null || fail "this machine lacks $program: install it (on Debian and Ubuntu: apt-get install ntfs-3g curl), then enrol again"
done
mkdir -p "$home" /usr/local/bin
exec 9>"$home/lock"
flock -w 300 9 || fail "another enrolment of this machine does not end"

# The agent comes from the rescue server, which has to have the key with this pin.
if ! echo "{{.Agent}}  $agent" | sha256sum --check --status 2>/dev/null; then
	new=$(mktemp "$agent.XXXXXX")
	status=$(curl --silent --show-error --noproxy '*' --proto =https --insecure --pinnedpubkey "sha256//{{.PinBase64}}" \
		--connect-timeout 15 --max-time 300 --retry 10 --retry-delay 3 --retry-connrefused --output "$new" --write-out '%{http_code}' --config - <<'END'
url = "{{.URL}}{{.AgentPath}}"
header = "Authorization: Bearer {{.Token}}"
END
	) || fail "cannot get the agent from {{.URL}}: does this machine reach it, and is it the rescue server with that key?"
	[ "$status" = 200 ] || fail "the rescue server does not send the agent ($status): $(head -c 500 "$new")"
	echo "{{.Agent}}  $new" | sha256sum --check --status || fail "the agent that came is not the one of the enrolment: the rescue server runs with another image than the one that enrols"
	chmod 755 "$new"
	mv -f "$new" "$agent"
	new=
	changed=1
fi

# A credential that is good stays. Else the token is exchanged for one.
if {{if .Renew}}true || {{end}}! "$agent" helper check --config "$home/helper.json" --url "{{.URL}}" --pin "{{.Pin}}"; then
	"$agent" helper enrol --config "$home/helper.json" --url "{{.URL}}" --pin "{{.Pin}}" --id "{{.ID}}" <<'END' || fail "this machine could not enrol: see above"
{{.Token}}
END
	changed=1
fi

wanted="[Unit]
Description=unbrick helper: repairs the disks of other hosts that are hung on this one
Wants=network-online.target
After=network-online.target

[Service]
ExecStartPre=-/sbin/modprobe --all fuse dm-crypt
ExecStart=$agent helper --config $home/helper.json
Restart=on-abnormal
RestartSec=5

[Install]
WantedBy=multi-user.target"
if [ "$wanted" != "$(cat "$unit" 2>/dev/null)" ]; then
	printf '%s\n' "$wanted" >"$unit"
	chmod 644 "$unit"
	systemctl daemon-reload
	changed=1
fi
systemctl --quiet enable unbrick-helper.service
if [ -n "${changed:-}" ] || ! systemctl --quiet is-active unbrick-helper.service; then
	systemctl restart unbrick-helper.service 9>&-
fi
systemctl --quiet is-active unbrick-helper.service || fail "the service unbrick-helper does not run: journalctl -u unbrick-helper says why"
echo "unbrick: the service unbrick-helper runs"
