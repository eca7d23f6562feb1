# Uses of the first host's key, whose public part comes on stdin: for its own host, for another, for the
# other under the first one's name, and for data that is no login. Each prints a line: `USE yes|no`.
cd
cat >first.pub
echo anything >data

try() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >&2 </dev/null; then echo "$name yes"; else echo "$name no"; fi
}

# With that key and no other: the configuration would add the row's own.
reach() { # HOST OPTION...
    local host=$1 port alias
    shift
    port=$(ssh -G "$host" | sed -n 's/^port //p')
    alias=$(ssh -G "$host" | sed -n 's/^hostkeyalias //p')
    GIT_SSH_COMMAND="ssh -F /dev/null $* -o HostName=ssh-gate -o Port=$port -o User=git -o HostKeyAlias=$alias \
        -o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes -o IdentityFile=$HOME/first.pub" \
        git ls-remote "$host:demo.git"
}

try own reach git
try other reach other
try other-by-alias reach other -o HostKeyAlias=git.demo.internal -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null
try data ssh-keygen -Y sign -f first.pub -n file data
