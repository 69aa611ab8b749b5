# The keeper of a world: process 1 of its own pid, mount and network namespace.
#
# Owns: the bridge, and every host as a child. When it goes, by whatever way, the kernel ends the pid
# namespace and with it every host. Reads one order a line from standard input: `boot HOST`. The end
# of input (the test process died, however) or `end` is the end of the world.
#
# Environment: WORLD (folder), CGROUPS (the world's cgroup), IMAGE (folder).
set -u

exec 9>"$WORLD/lock"
flock --nonblock 9 || { echo "another keeper has this world"; exit 1; }

mount -t tmpfs tmpfs /run && mkdir -p /run/systemd /run/lock || exit 1
ip link set lo up && ip link add br0 type bridge && ip link set br0 up || exit 1
# The bridge stands in for the other end of every wire: hosts reach the test process's tools by it.
ip address add 10.77.0.254/24 dev br0 || exit 1

# Runs one host to its end. The cgroup comes first: two hosts started from one cgroup would share
# `payload`, and a kill in one would hit the other.
launch() {
    local host=$1 folder=$WORLD/$1
    mkdir -p "$CGROUPS/$host" && echo 0 >"$CGROUPS/$host/cgroup.procs" || exit 1
    mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$folder/upper,workdir=$folder/work" "$folder/root" || exit 1
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    exec systemd-nspawn --quiet --directory="$folder/root" --boot --machine="$host" --register=no \
        --keep-unit --network-bridge=br0 --capability=all --resolv-conf=off --timezone=off \
        --link-journal=no --console=pipe
}
export -f launch

echo ready
exec >>"$WORLD/keeper.log" 2>&1

while IFS=' ' read -r order host; do
    case $order in
    boot)
        unshare --mount --propagation private bash -c 'launch "$1"' launch "$host" \
            </dev/null >>"$WORLD/$host/console.log" 2>&1 9>&- &
        ;;
    *) break ;;
    esac
done

# `-1` is everything in this pid namespace but this process itself.
kill -KILL -1
for _ in {1..250}; do
    grep -qx 'populated 0' "$CGROUPS/cgroup.events" && break
    sleep 0.02
done
find "$CGROUPS" -depth -type d -exec rmdir {} \;
rm -rf --one-file-system "$WORLD"
