# What the agent of the demo does: first its work, then everything that it must not be able to do.
#
# Arguments: the git host's address, the API's, the port on which the engine's machine listens, and
# that machine's addresses. Lines that begin with @ are for the demo:
#   @runs                               the agent has begun
#   @did TEXT MILLISECONDS              a piece of work
#   @try KEY yes|no MILLISECONDS TEXT   an attempt, whether it succeeded, and what it said last
set -u
git_address=$1 api_address=$2 host_port=$3
shift 3

micros() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

did() { # TEXT COMMAND...
    local text=$1 begin
    shift
    begin=$(micros)
    "$@" || { echo "could not: $text"; exit 1; }
    printf '@did\t%s\t%d\n' "$text" $((($(micros) - begin) / 1000))
}

try() { # KEY COMMAND...
    local key=$1 begin said outcome=yes took
    shift
    begin=$(micros)
    said=$("$@" 2>&1 </dev/null) || outcome=no
    took=$((($(micros) - begin) / 1000))
    said=${said##*$'\n'}
    said=${said##*: }
    printf '@try\t%s\t%s\t%d\t%s\n' "$key" "$outcome" "$took" "${said//[$'\t\r']/ }"
}

# A connection, given up after 5 s.
connect() { timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"; }

# An answer of status 2xx, given up after 10 s.
fetch() { curl --silent --show-error --fail --max-time 10 "$@"; }

authorized() { fetch http://cred-proxy:9099/api/whoami | grep '"authorized":true'; }

commit() {
    cd work && echo 'A line from the agent.' >>README &&
        git -c user.name=agent -c user.email=agent@demo.internal commit --quiet --all --message "$1"
}

# The first address of the bottle's own network, where another network's gateway would be.
gateway() {
    local to
    while read -r _ to _; do
        if [[ $to =~ ^[0-9A-F]{8}$ && $to != 00000000 ]]; then
            printf '%d.%d.%d.%d' "0x${to:6:2}" "0x${to:4:2}" "0x${to:2:2}" $((0x${to:0:2} + 1))
            return
        fi
    done </proc/net/route
}

# Files that hold a text, among those that would hold a secret.
holding() { grep -rlsaF -D skip -e "$1" /proc/[0-9]*/environ /etc /home /root /run /tmp; }

echo @runs
cd
did 'cloned git:demo.git over the gate' git clone --quiet git:demo.git work
did 'committed' commit 'a commit from the bottle'
did 'pushed it' git push --quiet
did 'asked the API, which knows us' authorized

try gate connect ssh-gate 30000
try proxy authorized
try git-direct connect "$git_address" 22
try api-direct connect "$api_address" 443
try internet connect 198.51.100.1 443
try internet6 connect 2001:db8::1 443
try metadata connect 169.254.169.254 80
try name timeout 10 getent hosts git.demo.internal
try gateway connect "$(gateway)" "$host_port"
for address in "$@"; do
    try "host $address" connect "$address" "$host_port"
done
try gate-admin connect ssh-gate 9901
try proxy-admin connect cred-proxy 9902
try no-route fetch http://cred-proxy:9099/elsewhere/
try other-host fetch --proxy http://cred-proxy:9099 http://git.demo.internal/
try tunnel fetch --proxytunnel --proxy http://cred-proxy:9099 http://git.demo.internal/
try raw-socket perl -MSocket -e 'socket(my $raw, PF_INET, SOCK_RAW, 1) or die "cannot: $!\n"'
try engine-socket test -S /var/run/docker.sock
try key holding 'OPENSSH PRIVATE KEY'
try token holding 'demo-token-'
try keys-removed ssh-add -q -D
