# Adds a route to one host by way of another, `HOST GATEWAY` from stdin: SIOCADDRT with a struct
# rtentry on 64 bits (net/route.h), flags UP, GATEWAY and HOST. Needs NET_ADMIN and no iproute2.
read -r host gateway
perl -MSocket -e '
    my ($to, $via, $mask) = map { pack_sockaddr_in(0, inet_aton($_)) } @ARGV, "255.255.255.255";
    socket(my $s, PF_INET, SOCK_DGRAM, 0) or die "$!\n";
    my $entry = pack("x8 a16 a16 a16 S S x64", $to, $via, $mask, 7, 0);
    ioctl($s, 0x890B, $entry) or die "$!\n"' "$host" "$gateway"
