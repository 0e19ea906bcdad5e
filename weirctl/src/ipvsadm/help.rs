//! What `ipvsadm -h` and `-v` print.

/// `-v`: the line that scripts look for the version in.
pub(super) fn version() -> String {
    format!("ipvsadm v1.31 (weirctl {}, IPVS v1.2.1)\n", env!("CARGO_PKG_VERSION"))
}

/// `-h`
pub(super) const TEXT: &str = "\
ipvsadm, spoken by weirctl: looks after weir's virtual and real servers with ipvsadm's commands.
What is changed here lasts until weir is told to read its file again, unless `weirctl save` writes it there.

Virtual servers (SERVICE is -t ADDRESS:PORT, -u ADDRESS:PORT, --sctp-service ADDRESS:PORT or -f MARK):
  -A SERVICE [-s METHOD] [-p [SECONDS]] [-M NETMASK] [--pe sip] [-b FLAGS] [-o]    add one
  -E SERVICE ...    set it anew: what is left out goes back to its default
  -D SERVICE        remove it
  -C                remove all of them

Real servers:
  -a SERVICE -r ADDRESS[:PORT] [-g | -i | -m] [-w WEIGHT] [-x UPPER] [-y LOWER]    add one
  -e SERVICE -r ADDRESS[:PORT] ...    set it anew: what is left out goes back to its default
  -d SERVICE -r ADDRESS[:PORT]        remove it

Looking:
  -L [SERVICE]      virtual and real servers; -l is the same, and so is no command at all
      -n numbers instead of names      --stats counters       --rate per second      --exact all digits
      --thresholds   --persistent-conn   --tun-info   --nosort as weir keeps them
  -L -c             connections
  -L --timeout      how long connections stay
  -Z [SERVICE]      counters begin at 0 again
  -S [-n]           print the commands that make what there is
  -R                read such commands from stdin

  --set TCP TCPFIN UDP    how long connections stay, in seconds; 0 leaves one as it is

Long names: --add-service --edit-service --delete-service --clear --add-server --edit-server --delete-server
  --list --zero --save --restore --tcp-service --udp-service --fwmark-service --real-server --scheduler
  --persistent --netmask --pe --sched-flags --ops --gatewaying --ipip --masquerading --weight --u-threshold
  --l-threshold --numeric --connection
Forwarding: -g direct routing (the default), -i IP in IP, -m NAT. Methods: rr wrr lc wlc (the default) lblc lblcr dh
  sh sed nq fo ovf mh. Flags: sh-port sh-fallback mh-port mh-fallback.
weir has no sync daemons (--start-daemon). --pe sip keeps calls of SIP together.
Exit status: 0 done, 1 could not list, 2 bad usage, 255 refused or not understood.
";
