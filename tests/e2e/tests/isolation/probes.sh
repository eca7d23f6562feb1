# Probes from stdin, a line each, `KIND ADDRESS PORT`. For each, `KIND ADDRESS PORT`, a tab, and either
# `reached` or what was said last; nothing was said when it was given up after 5 s.

perl_socket() { perl -MSocket -e "$@"; }

probe() { # KIND ADDRESS PORT
    case $1 in
    tcp | udp) timeout 5 bash -c 'exec 3<>"/dev/$0/$1/$2" && { [[ $0 == tcp ]] || printf probe >&3; }' "$@" ;;
    # The first bytes of an answer: an accepted connection that is closed again is no service.
    answer)
        timeout 5 bash -c 'trap "" PIPE
            exec 3<>"/dev/tcp/$0/$1" || exit
            # The gate carries nothing but SSH.
            case $1 in
            30000) printf "SSH-2.0-probe\r\n" >&3 ;;
            *) printf "GET / HTTP/1.1\r\nHost: cred-proxy:9099\r\n\r\n" >&3 ;;
            esac
            head -c 3 <&3 | grep --quiet . || { echo "closed without an answer" >&2; exit 1; }' "$2" "$3" ;;
    # An echo request as a user without rights may send it.
    icmp)
        perl_socket 'socket(my $s, PF_INET, SOCK_DGRAM, 1) or die "$!\n";
            my $echo = pack("CCnnn", 8, 0, 0, 0, 0);
            send($s, $echo, 0, pack_sockaddr_in(0, inet_aton($ARGV[0]))) or die "$!\n";
            vec(my $ready = "", fileno($s), 1) = 1; select($ready, undef, undef, 2) or die "no reply\n"' "$2" ;;
    name) timeout 10 getent hosts "$2" || { echo "no such name" >&2; return 1; } ;;
    raw)
        perl_socket 'socket(my $s, $ARGV[0] eq "packet" ? 17 : PF_INET, SOCK_RAW, 1) or die "$!\n"' "$2" ;;
    # SIOCADDRT of a default route by that gateway: struct rtentry on 64 bits (net/route.h).
    default-route)
        perl_socket 'my ($zero, $via) = map { pack_sockaddr_in(0, inet_aton($_)) } "0.0.0.0", $ARGV[0];
            socket(my $s, PF_INET, SOCK_DGRAM, 0) or die "$!\n";
            my $entry = pack("x8 a16 a16 a16 S S x64", $zero, $via, $zero, 3, 0);
            ioctl($s, 0x890B, $entry) or die "$!\n"' "$2" ;;
    file) test -e "$2" || { echo "no such file" >&2; return 1; } ;;
    *) echo "no such probe" ;;
    esac
}

count=0
while read -r kind address port; do
    {
        said=$(probe "$kind" "$address" "$port" 2>&1 </dev/null) && said=reached
        said=${said##*$'\n'}
        printf '%s\t%s\n' "$kind $address${port:+ $port}" "${said##*: }"
    } &
    # Each takes a handful of processes, of which the bottle has a limit.
    ((++count % 16)) || wait
done
wait
