# A service that answers anyone, on the address that stdin names and a free port, which it prints. It
# runs on in the background, without this shell's streams.
read -r address
perl -MSocket -e '
    my $s;
    socket($s, PF_INET, SOCK_STREAM, 0) and bind($s, pack_sockaddr_in(0, inet_aton($ARGV[0])))
        and listen($s, 8) or die "$!\n";
    my ($port) = unpack_sockaddr_in(getsockname($s));
    $| = 1;
    print "$port\n";
    exit if fork;
    open(STDOUT, ">", "/dev/null"); open(STDERR, ">", "/dev/null"); open(STDIN, "<", "/dev/null");
    while (accept(my $c, $s)) { sysread($c, my $asked, 1); syswrite($c, "naive\n"); close($c) }' "$address"
