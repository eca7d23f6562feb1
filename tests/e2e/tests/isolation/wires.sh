# Listens on every interface of the network namespace it runs in, and notes in /tmp/wires which of the
# names on stdin, one a line, a packet carried. Prints `listening` and goes on in the background.
perl -e '
    chomp(my @names = <STDIN>);
    # ETH_P_ALL (packet(7)).
    socket(my $wires, 17, 3, unpack("S", pack("n", 3))) or die "$!\n";
    open(my $notes, ">", "/tmp/wires") or die "$!\n";
    select($notes); $| = 1; select(STDOUT); $| = 1;
    print "listening\n";
    exit if fork;
    open(STDOUT, ">", "/dev/null"); open(STDERR, ">", "/dev/null"); open(STDIN, "<", "/dev/null");
    while (defined recv($wires, my $packet, 65536, 0)) {
        for my $name (@names) { print $notes "$name\n" if index($packet, $name) >= 0 }
    }'
