# Who is asked for a name outside: listens where the bottle's resolver is told to ask, the agent's own
# loopback, looks a name up, and prints `heard` or, after 5 s, `nothing`.
perl -MSocket -e '
    my $s;
    socket($s, PF_INET, SOCK_DGRAM, 17) and bind($s, pack_sockaddr_in(53, inet_aton("127.0.0.1")))
        or die "$!\n";
    system("timeout 10 getent hosts looked-up.invalid >/dev/null 2>&1 &");
    vec(my $ready = "", fileno($s), 1) = 1;
    while (select(my $now = $ready, undef, undef, 5)) {
        recv($s, my $asked, 512, 0);
        if ($asked =~ /looked-up/) { print "heard\n"; exit }
    }
    print "nothing\n"'
