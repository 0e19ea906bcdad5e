# shellcheck shell=bash
# Installs Debian packages that are missing, and only those. Sourced by scripts/demo and ci/test.

# Each argument is a package, or COMMAND=PACKAGE for a package that is only wanted for its command. Says what it does.
# Services that come with a package (nginx, prometheus) are neither started nor enabled.
need_packages() {
    local wanted missing=()
    for wanted in "$@"; do
        if [[ $wanted == *=* ]]; then
            PATH=$PATH:/usr/sbin:/sbin command -v "${wanted%%=*}" >/dev/null || missing+=("${wanted#*=}")
        elif [[ $(dpkg-query -W -f '${db:Status-Status}' "$wanted" 2>/dev/null) != installed ]]; then
            missing+=("$wanted")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    if [[ $EUID != 0 ]]; then
        printf 'missing packages: %s; install them as root with: apt-get install %s\n' "${missing[*]}" "${missing[*]}" >&2
        return 1
    fi
    printf 'installing with apt: %s\n' "${missing[*]}"
    install_quietly "${missing[@]}"
}

# Runs apt-get with its output kept back unless it fails.
install_quietly() {
    local log policy=/usr/sbin/policy-rc.d made_policy=false status=0 service
    log=$(mktemp)
    if [[ ! -e $policy ]]; then
        # Debian's way to say "start no service while packages are installed".
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made_policy=true
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null || status=$?
    if $made_policy; then
        rm -f "$policy"
    fi
    if ((status != 0)); then
        tail -n 30 "$log" >&2
        printf 'apt-get could not install %s\n' "$*" >&2
    elif [[ -d /run/systemd/system ]]; then
        for service in nginx prometheus bird; do
            [[ " $* " != *" $service"* ]] || systemctl disable --quiet "$service" 2>/dev/null || true
        done
    fi
    rm -f "$log"
    return "$status"
}
