# Reads orders until its input ends, which is when the process that gives them has ended in whatever way, and then carries
# them out:
#   end ID STARTED     kill this process, if it is still the one that started then
#   remove DIRECTORY   remove this directory, once all processes are gone
# Must never look a process up by its name.
trap '' HUP INT QUIT TERM

orders=$(cat)

alive() { # id started
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  started=$2
  # After the name come the state and, 19 fields later, the start; the name may hold spaces.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" != Z ] && [ "${20}" = "$started" ]
}

each() { # order function: calls the function with what follows that order, line by line
  printf '%s\n' "$orders" | while read -r order subject; do
    if [ "$order" = "$1" ]; then "$2" "$subject"; fi
  done
}

end() { # "id started"
  # shellcheck disable=SC2086
  if alive $1; then kill -KILL "${1% *}"; fi
}

await() { # "id started"
  tries=0
  # shellcheck disable=SC2086
  while alive $1 && [ "$tries" -lt 200 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
}

remove() { # directory
  rm -rf -- "$1"
}

each end end
each end await
each remove remove
