# The two questions that libvirt asks before and after everything, answered without starting Python.
status() {
    pid=$(cat "$D/state/$1.pid" 2>/dev/null)
    line=$(cat "/proc/${pid:-none}/stat" 2>/dev/null)
    case ${line##*)} in "" | " Z"*) echo stopped ;; *) echo running ;; esac
}
case "$*" in
"-a -ovpsid,status -H")
    for file in "$D"/etc-vz/conf/[0-9]*.conf; do
        [ -f "$file" ] || continue
        number=${file##*/}
        number=${number%.conf}
        printf '%10s %s\n' "$number" "$(status "$number")"
    done
    exit 0
    ;;
[0-9]*" -ostatus -H")
    [ -f "$D/etc-vz/conf/$1.conf" ] && { status "$1"; exit 0; }
    ;;
esac
