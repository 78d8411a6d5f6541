# Programs whose every printed byte depends on the processor and on nothing else. Runs in its own folder, on the host when
# the guest is made and in the guest, by the same busybox, with the same libraries.
b="${BUSYBOX:-/bin/busybox}"
tmp="${TMPDIR:-/tmp}"
export OPENSSL_CONF=/dev/null

run() {
    program=$1
    shift
    lib/ld.so --library-path lib "bin/$program" "$@"
}

# A megabyte that no routine meets in one piece.
for n in 1 2 3 4; do $b cat bin/cc1 | $b tail -c +$((n * 4097)) | $b head -c 262144; done > "$tmp/data"

echo "# digests"
for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 blake2b512 blake2s256 sm3; do
    echo "$digest $(run openssl dgst -$digest < "$tmp/data" | $b sed 's/.*= *//')"
done
for digest in md5sum sha1sum sha256sum sha512sum; do echo "busybox $digest $($b $digest < "$tmp/data")"; done

echo "# ciphers"
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
iv=f0e0d0c0b0a090807060504030201000
for cipher in aes-128-cbc aes-256-ctr aes-128-ecb camellia-128-cbc aria-128-ctr chacha20 sm4-cbc des-ede3-cbc; do
    case $cipher in
        *128* | sm4*) k=${key%????????????????????????????????} ;;
        des*) k=${key%????????????????} ;;
        *) k=$key ;;
    esac
    case $cipher in
        *ecb) v="" ;;
        des*) v="-iv ${iv%????????????????}" ;;
        *) v="-iv $iv" ;;
    esac
    run openssl enc -$cipher -K "$k" $v -in "$tmp/data" -out "$tmp/sealed"
    echo "$cipher $($b sha256sum < "$tmp/sealed")"
    run openssl enc -d -$cipher -K "$k" $v -in "$tmp/sealed" | $b cmp - "$tmp/data" && echo "$cipher opens"
done
echo "hmac $(run openssl dgst -sha256 -hmac proof < "$tmp/data" | $b sed 's/.*= *//')"

echo "# numbers"
run openssl prime -checks 8 -hex 7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF 1FFFFFFFFFFFFFFF FFFFFFFFFFFFFFC5 \
    1FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF
$b awk 'BEGIN {
    for (i = 1; i <= 4000; i++) { s += (i * 1.5) / (i + 0.25) - i / (i * 3.0 + 7); t = t * 0.999 + s / i }
    printf "awk %.17g %.17g %.6e %d\n", s, t, s * 1e290, s * 1e6
}'

echo "# checks of the floating-point unit"
for check in bin/fpcheck*; do
    [ -e "$check" ] || continue
    echo "${check#bin/}"
    "$check"
done

echo "# a compiler"
run cc1 -quiet -nostdinc -O1 -frandom-seed=proof big.c -o "$tmp/big.s" || echo "cc1 failed"
echo "cc1 $($b sha256sum < "$tmp/big.s") $($b wc -l < "$tmp/big.s")"
