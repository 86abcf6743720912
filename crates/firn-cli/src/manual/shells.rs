//! Scripts that teach shells to complete `nix`: they ask the program itself, by the variable `NIX_GET_COMPLETIONS`.

const BASH: &str = r#"# Completion of nix for bash: source this file.
_firn_nix() {
    local line kind
    local -a words=("${COMP_WORDS[@]}")
    local -i index=$COMP_CWORD
    # Colons part words for bash, but not for nix.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cur prev cword
        _get_comp_words_by_ref -n ':=&' words cword cur
        index=$cword
    fi
    local current=${words[index]}
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        if [[ -z $kind ]]; then
            kind=$line
            case $kind in
                filenames) compopt -o filenames ;;
                attrs) compopt -o nospace ;;
            esac
            continue
        fi
        COMPREPLY+=("$line")
    done < <(NIX_GET_COMPLETIONS=$index "${words[0]/#\~/$HOME}" "${words[@]:1}" 2>/dev/null)
    if declare -F __ltrimcolon_completions >/dev/null; then __ltrimcolon_completions "$current"; fi
}
complete -F _firn_nix nix
"#;

const ZSH: &str = r#"#compdef nix
# Completion of nix for zsh: put this file as _nix into a folder of $fpath.
_firn_nix() {
    local kind line word text
    local -a words_found texts
    while IFS= read -r line; do
        if [[ -z $kind ]]; then kind=$line; continue; fi
        word=${line%%$'\t'*}
        text=${line#*$'\t'}
        words_found+=("$word")
        texts+=("${word}${text:+  -- $text}")
    done < <(NIX_GET_COMPLETIONS=$((CURRENT - 1)) $words 2>/dev/null)
    if [[ $kind == filenames ]]; then
        compadd -f -- $words_found
    elif [[ $kind == attrs ]]; then
        compadd -S '' -d texts -- $words_found
    else
        compadd -d texts -- $words_found
    fi
}
if [[ $funcstack[1] == _nix ]]; then _firn_nix "$@"; else compdef _firn_nix nix; fi
"#;

const FISH: &str = r#"# Completion of nix for fish: put this file as nix.fish into ~/.config/fish/completions.
function __firn_nix
    set -l before (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l index (count $before)
    env NIX_GET_COMPLETIONS=$index $before $current 2>/dev/null
end
function __firn_nix_words
    __firn_nix | tail --lines=+2
end
complete --command nix --no-files --arguments '(__firn_nix_words)'
"#;

/// The script for a shell; nothing where it is not known.
pub fn script(shell: &str) -> Option<&'static str> {
    match shell {
        "bash" => Some(BASH),
        "zsh" => Some(ZSH),
        "fish" => Some(FISH),
        _ => None,
    }
}
