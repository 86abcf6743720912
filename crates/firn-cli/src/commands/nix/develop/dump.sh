# The builder of `nix develop`: sets up the derivation's environment as its own builder would, and writes all
# variables and functions of the shell as JSON to the first output. For any bash that a stdenv may have (3.2 or later,
# without programmable completion).
set -e
if [ -e "$NIX_ATTRS_SH_FILE" ]; then source "$NIX_ATTRS_SH_FILE"; fi
export IN_NIX_SHELL=impure
export dontAddDisableDepTrack=1
if [ -n "$stdenv" ]; then source "$stdenv/setup"; fi

# Prints a JSON string. Control characters without a short form are left out of what the shell can replace at once.
__firn_string() {
    local s="$1" out= c i
    s="${s//\\/\\\\}"
    s="${s//\"/\\\"}"
    s="${s//$'\n'/\\n}"
    s="${s//$'\r'/\\r}"
    s="${s//$'\t'/\\t}"
    if [[ $s == *[$'\001'-$'\037']* ]]; then
        for ((i = 0; i < ${#s}; i++)); do
            c="${s:i:1}"
            if [[ $c == [$'\001'-$'\037'] ]]; then printf -v c '\\u%04x' "'$c"; fi
            out+="$c"
        done
        s="$out"
    fi
    printf '"%s"' "$s"
}

# Prints the variable named $1, with what `declare` says of it in $2, as a member of a JSON object.
__firn_variable() {
    local __firn_name="$1" __firn_kind="$2" __firn_item __firn_separator=
    __firn_string "$__firn_name"
    case "$__firn_kind" in
        # References, constants and numbers cannot be set again as they were.
        *n* | *r* | *i*)
            printf ': {"type": "unknown"}'
            ;;
        *A*)
            printf ': {"type": "associative", "value": {'
            eval "set -- \${$__firn_name[@]+\"\${!$__firn_name[@]}\"}"
            for __firn_item in "$@"; do
                printf '%s' "$__firn_separator"
                __firn_string "$__firn_item"
                printf ': '
                eval "__firn_string \"\${$__firn_name[\$__firn_item]}\""
                __firn_separator=', '
            done
            printf '}}'
            ;;
        *a*)
            printf ': {"type": "array", "value": ['
            eval "set -- \${$__firn_name[@]+\"\${$__firn_name[@]}\"}"
            for __firn_item in "$@"; do
                printf '%s' "$__firn_separator"
                __firn_string "$__firn_item"
                __firn_separator=', '
            done
            printf ']}'
            ;;
        *)
            case "$__firn_kind" in
                *x*) printf ': {"type": "exported", "value": ' ;;
                *) printf ': {"type": "var", "value": ' ;;
            esac
            __firn_string "${!__firn_name-}"
            printf '}'
            ;;
    esac
}

__firn_dump() {
    local __firn_variable_name __firn_line __firn_comma= __firn_seen=' ' LC_ALL=C
    printf '{"bashFunctions": {'
    while read -r __firn_line; do
        __firn_variable_name="${__firn_line##* }"
        case "$__firn_variable_name" in __firn_*) continue ;; esac
        __firn_line="$(declare -f "$__firn_variable_name")"
        # What stands between the outermost braces.
        __firn_line="${__firn_line#*\{}"
        __firn_line="${__firn_line%\}*}"
        printf '%s' "$__firn_comma"
        __firn_string "$__firn_variable_name"
        printf ': '
        __firn_string "$__firn_line"
        __firn_comma=$',\n'
    done < <(declare -F)
    printf '},\n"variables": {'
    __firn_comma=
    # Also those that are declared and have no value yet: a table that is not declared takes keys for arithmetic. A line
    # of a value may look like a declaration.
    while read -r __firn_line; do
        [[ $__firn_line =~ ^declare\ -[^\ ]+\ ([A-Za-z_][A-Za-z0-9_]*)(=|$) ]] || continue
        __firn_variable_name="${BASH_REMATCH[1]}"
        case "$__firn_variable_name" in
            # The shell's own.
            __firn_* | BASH_* | COMP_* | _ | DIRSTACK | EPOCHREALTIME | EPOCHSECONDS | EUID | FUNCNAME | GROUPS) continue ;;
            HISTCMD | HOSTNAME | LC_ALL | LINENO | PIPESTATUS | PWD | RANDOM | SECONDS | SHLVL | SRANDOM) continue ;;
        esac
        case "$__firn_seen" in *" $__firn_variable_name "*) continue ;; esac
        __firn_seen="$__firn_seen$__firn_variable_name "
        __firn_line="$(declare -p "$__firn_variable_name" 2>/dev/null)" || continue
        __firn_line="${__firn_line#declare -}"
        printf '%s' "$__firn_comma"
        __firn_variable "$__firn_variable_name" "${__firn_line%% *}"
        __firn_comma=$',\n'
    done < <(declare -p)
    printf '}'
    if [ -e "$NIX_ATTRS_SH_FILE" ]; then
        printf ',\n"structuredAttrs": {".attrs.sh": '
        __firn_string "$(<"$NIX_ATTRS_SH_FILE")"
        printf ', ".attrs.json": '
        __firn_string "$(<"$NIX_ATTRS_JSON_FILE")"
        printf '}'
    fi
    printf '}\n'
}

# With structured attributes the outputs are a table from names to paths, otherwise the names of variables.
__firn_outputs=()
if [ -e "$NIX_ATTRS_SH_FILE" ]; then
    __firn_outputs=("${outputs[@]}")
else
    for __firn_output in $outputs; do
        __firn_outputs+=("${!__firn_output}")
    done
fi
# IFS may be anything after the set-up.
IFS=$' \t\n' __firn_text="$(__firn_dump)"
for __firn_output in "${__firn_outputs[@]}"; do
    printf '%s' "$__firn_text" >"$__firn_output"
    __firn_text=
done
