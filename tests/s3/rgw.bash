# shellcheck shell=bash
# RGW: Ceph's S3 server, from Debian's packages: one monitor, one OSD that keeps everything in memory, one gateway. It
# checks signatures, and its conditional writes are its own. It shows what S3 means; it says nothing about durability.
# Sourced by `up`.

rgw_configuration() {
  local folder=$1 id=$2 gateway=$3 monitor=$4
  cat <<CONF
[global]
fsid = $id
mon host = $monitor
public network = 127.0.0.0/8
log file = $folder/log/\$name
# A path of ours may be longer than the address of a Unix socket can be.
admin socket =
mon data = $folder/mon
osd data = $folder/osd

# Nobody else is on this machine's loopback: no keys among Ceph's own parts. The last line belongs to it: without it
# the gateway waits for ever for a monitor that speaks securely.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc

# A single OSD has to be enough for every pool.
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false

# Few placement groups, and no limit that the gateway's pools could reach: else it cannot make them.
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon max pg per osd = 2000

# A nearly full disk is no reason to stop: nothing is kept there.
mon data avail warn = 1
mon data avail crit = 1

# The monitor gathers changes for so many seconds before it agrees with itself; each pool waits for several of them.
paxos propose interval = 0.05

[osd]
osd objectstore = memstore
memstore device bytes = 8589934592
# The gateway refuses keys of 1,024 bytes on an OSD that takes no longer names than that.
osd max object name len = 2048

[client.rgw]
# Without tcp_nodelay the client's delayed ACK makes every GET take 44 ms.
rgw frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw thread pool size = 32
# One of each instead of dozens: each is an object that is made at the start.
rgw data log num shards = 1
rgw usage max shards = 1
rgw gc max objs = 1
rgw lc max objs = 1
rgw num rados handles = 1
# What was deleted leaves the memory soon, not after two hours.
rgw gc obj min wait = 10
rgw gc processor period = 10
# Encryption with a key is refused over plain HTTP otherwise.
rgw crypt require ssl = false
CONF
}

rgw_start() {
  local folder=$1 gateway first second id disk monitor
  read -r gateway first second < <(free_ports 3) || return 1
  id=$(</proc/sys/kernel/random/uuid)
  disk=$(</proc/sys/kernel/random/uuid)
  monitor="[v2:127.0.0.1:$first,v1:127.0.0.1:$second]"
  export CEPH_CONF=$folder/ceph.conf
  rgw_configuration "$folder" "$id" "$gateway" "$monitor" >"$CEPH_CONF"
  mkdir "$folder/mon" "$folder/osd"

  monmaptool --create --fsid "$id" --addv a "$monitor" "$folder/monmap" >"$folder/log/monmap" 2>&1 || return 1
  ceph-mon --mkfs -i a --monmap "$folder/monmap" >"$folder/log/mon-made" 2>&1 || return 1
  launch "$folder" "$folder/log/mon-said" ceph-mon -i a -f

  # Waits for the monitor by itself.
  timeout 30 ceph osd new "$disk" >"$folder/log/osd-new" 2>&1 || return 1
  ceph-osd -i 0 --mkfs --osd-uuid "$disk" >"$folder/log/osd-made" 2>&1 || return 1
  launch "$folder" "$folder/log/osd-said" ceph-osd -i 0 -f

  # Waits for the OSD by itself.
  timeout 60 radosgw-admin -n client.rgw user create --uid=everpage --display-name=everpage \
    --access-key=AKIAX --secret-key=SECRETX >"$folder/log/user" 2>&1 || return 1
  launch "$folder" "$folder/log/rgw-said" radosgw -n client.rgw -f
  until_served "$folder" "$gateway" 60 || return 1
  echo "http://127.0.0.1:$gateway" >"$folder/url"
}
