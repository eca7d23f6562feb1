# Looks everywhere for a private key. stdin: the path of the ssh-agent's own socket, and a line of the key.
# `found PATH` for each file that holds it; `WHAT yes|no` for what of root's could be read.
cd
read -r socket
read -r secret

try() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >&2 </dev/null; then echo "$name yes"; else echo "$name no"; fi
}

# One that the search must find, or it finds nothing at all.
printf '%s\n' "$secret" >planted
grep -rlaF -D skip -e "$(cat planted)" --exclude-dir=proc --exclude-dir=sys / 2>/dev/null | sed 's/^/found /'
grep -laF -e "$(cat planted)" /proc/[0-9]*/environ 2>/dev/null | sed 's/^/found /'

# The memory of a process, from where it is mapped: at least a byte of it.
memory() { # PID
    local from
    read -r from _ <"/proc/$1/maps" || return 1
    perl -e 'open(my $m, "<:raw", "/proc/$ARGV[0]/mem") or die "$!\n"; seek($m, hex($ARGV[1]), 0);
        read($m, my $byte, 1) == 1 or die "$!\n"' "$1" "${from%%-*}"
}

# A process of root's of which anything but its name can be read.
any_of_root() { # COMMAND with PID
    local folder
    for folder in /proc/[0-9]*; do
        if [[ $(stat -c %u "$folder") == 0 ]] && "$@" "${folder#/proc/}"; then return 0; fi
    done
    return 1
}
environment() { cat "/proc/$1/environ"; }
files() { ls "/proc/$1/fd/0" "/proc/$1/cwd/"; }

try own-memory memory $$
try ssh-agent-runs pgrep --uid 0 --exact ssh-agent
try memory any_of_root memory
try environment any_of_root environment
try files any_of_root files
try socket env SSH_AUTH_SOCK="$socket" ssh-add -l
