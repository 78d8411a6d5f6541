//! The table of what came after SSSE3: see [`super::vector`].

use super::convert::{PairToIntegers, QuadToIntegers, ScalarFromInteger, ScalarToInteger};
use super::float::{Double, Single};
use super::vector::{Form, Function, PLAIN, Row, Shape, packed, pure};
use super::{arith, convert, crypto, fma, half, integer, rounding, select, sha, wide};
use aero_x86::Mnemonic as M;

/// `(form, shape, lanes | across) { mnemonic = function, .. }`, any number of times.
macro_rules! rows {
    ($(($form:ident, $shape:expr, $kind:ident) { $($mnemonic:ident = $f:expr),* $(,)? })*) => {
        /// Every row.
        pub static ROWS: &[Row] = &[$($(
            Row {
                mnemonic: M::$mnemonic,
                form: Form::$form,
                shape: $shape,
                function: rows!(@ $kind $f),
            },
        )*)*];
    };
    (@ lanes $f:expr) => { Function::Lanes($f) };
    (@ across $f:expr) => { Function::Across($f) };
}

rows! {
    // SSE4.1 and SSE4.2.
    (Any, PLAIN, lanes) {
        Blendps = select::blendps, Blendpd = select::blendpd, Pblendw = select::pblendw,
        Blendvps = select::blendvps, Blendvpd = select::blendvpd, Pblendvb = select::pblendvb,
        Pinsrb = select::pinsrb, Pinsrd = select::pinsrd, Pinsrq = select::pinsrq,
        Pextrb = select::pextrb, Pextrd = select::pextrd, Pextrq = select::pextrq,
        Extractps = select::pextrd,
        Pmovsxbw = select::pmovsxbw, Pmovsxbd = select::pmovsxbd, Pmovsxbq = select::pmovsxbq,
        Pmovsxwd = select::pmovsxwd, Pmovsxwq = select::pmovsxwq, Pmovsxdq = select::pmovsxdq,
        Pmovzxbw = select::pmovzxbw, Pmovzxbd = select::pmovzxbd, Pmovzxbq = select::pmovzxbq,
        Pmovzxwd = select::pmovzxwd, Pmovzxwq = select::pmovzxwq, Pmovzxdq = select::pmovzxdq,
        Movntdqa = select::copy,
        Pmulld = wide::pmulld, Pmuldq = wide::pmuldq,
        Pminsb = wide::pminsb, Pmaxsb = wide::pmaxsb, Pminuw = wide::pminuw, Pmaxuw = wide::pmaxuw,
        Pminsd = wide::pminsd, Pmaxsd = wide::pmaxsd, Pminud = wide::pminud, Pmaxud = wide::pmaxud,
        Pcmpeqq = wide::pcmpeqq, Pcmpgtq = wide::pcmpgtq, Packusdw = wide::packusdw,
        Mpsadbw = wide::mpsadbw, Phminposuw = wide::phminposuw,
        Roundps = rounding::roundps, Roundpd = rounding::roundpd,
        Roundss = rounding::roundss, Roundsd = rounding::roundsd,
        Dpps = rounding::dpps, Dppd = rounding::dppd,
    }
    (Store, PLAIN, lanes) { Pextrw = select::pextrw }
    (Registers, PLAIN, lanes) { Insertps = select::insertps }
    (Load, PLAIN, lanes) { Insertps = select::insertps_memory }
    (Any, Shape::FLAGS, lanes) { Ptest = wide::ptest }
    // AES-NI, PCLMULQDQ, SHA-NI.
    (Any, PLAIN, lanes) {
        Aesenc = crypto::aesenc, Aesenclast = crypto::aesenclast, Aesdec = crypto::aesdec,
        Aesdeclast = crypto::aesdeclast, Aesimc = crypto::aesimc, Aeskeygenassist = crypto::aeskeygenassist,
        Pclmulqdq = crypto::pclmulqdq,
        Sha1rnds4 = sha::sha1rnds4, Sha1nexte = sha::sha1nexte, Sha1msg1 = sha::sha1msg1,
        Sha1msg2 = sha::sha1msg2, Sha256rnds2 = sha::sha256rnds2, Sha256msg1 = sha::sha256msg1,
        Sha256msg2 = sha::sha256msg2,
    }
    // AVX and AVX2: packed integers.
    (Any, PLAIN, lanes) {
        Vpaddb = packed::<integer::Paddb>, Vpaddw = packed::<integer::Paddw>,
        Vpaddd = packed::<integer::Paddd>, Vpaddq = packed::<integer::Paddq>,
        Vpaddsb = packed::<integer::Paddsb>, Vpaddsw = packed::<integer::Paddsw>,
        Vpaddusb = packed::<integer::Paddusb>, Vpaddusw = packed::<integer::Paddusw>,
        Vpsubb = packed::<integer::Psubb>, Vpsubw = packed::<integer::Psubw>,
        Vpsubd = packed::<integer::Psubd>, Vpsubq = packed::<integer::Psubq>,
        Vpsubsb = packed::<integer::Psubsb>, Vpsubsw = packed::<integer::Psubsw>,
        Vpsubusb = packed::<integer::Psubusb>, Vpsubusw = packed::<integer::Psubusw>,
        Vpmullw = packed::<integer::Pmullw>, Vpmulhw = packed::<integer::Pmulhw>,
        Vpmulhuw = packed::<integer::Pmulhuw>, Vpmuludq = packed::<integer::Pmuludq>,
        Vpmaddwd = packed::<integer::Pmaddwd>, Vpavgb = packed::<integer::Pavgb>,
        Vpavgw = packed::<integer::Pavgw>, Vpminub = packed::<integer::Pminub>,
        Vpmaxub = packed::<integer::Pmaxub>, Vpminsw = packed::<integer::Pminsw>,
        Vpmaxsw = packed::<integer::Pmaxsw>, Vpsadbw = packed::<integer::Psadbw>,
        Vpcmpeqb = packed::<integer::Pcmpeqb>, Vpcmpeqw = packed::<integer::Pcmpeqw>,
        Vpcmpeqd = packed::<integer::Pcmpeqd>, Vpcmpgtb = packed::<integer::Pcmpgtb>,
        Vpcmpgtw = packed::<integer::Pcmpgtw>, Vpcmpgtd = packed::<integer::Pcmpgtd>,
        Vpand = packed::<integer::Pand>, Vpandn = packed::<integer::Pandn>, Vpor = packed::<integer::Por>,
        Vpxor = packed::<integer::Pxor>, Vpacksswb = packed::<integer::Packsswb>,
        Vpackuswb = packed::<integer::Packuswb>, Vpackssdw = packed::<integer::Packssdw>,
        Vpunpcklbw = packed::<integer::Punpcklbw>, Vpunpcklwd = packed::<integer::Punpcklwd>,
        Vpunpckldq = packed::<integer::Punpckldq>, Vpunpcklqdq = packed::<integer::Punpcklqdq>,
        Vpunpckhbw = packed::<integer::Punpckhbw>, Vpunpckhwd = packed::<integer::Punpckhwd>,
        Vpunpckhdq = packed::<integer::Punpckhdq>, Vpunpckhqdq = packed::<integer::Punpckhqdq>,
        Vpshuflw = packed::<integer::Pshuflw>, Vpshufhw = packed::<integer::Pshufhw>,
        Vpshufd = packed::<integer::Pshufd>, Vpshufb = packed::<integer::Pshufb>,
        Vpalignr = packed::<integer::Palignr>, Vpabsb = packed::<integer::Pabsb>,
        Vpabsw = packed::<integer::Pabsw>, Vpabsd = packed::<integer::Pabsd>,
        Vpsignb = packed::<integer::Psignb>, Vpsignw = packed::<integer::Psignw>,
        Vpsignd = packed::<integer::Psignd>, Vphaddw = packed::<integer::Phaddw>,
        Vphaddsw = packed::<integer::Phaddsw>, Vphsubw = packed::<integer::Phsubw>,
        Vphsubsw = packed::<integer::Phsubsw>, Vphaddd = packed::<integer::Phaddd>,
        Vphsubd = packed::<integer::Phsubd>, Vpmulhrsw = packed::<integer::Pmulhrsw>,
        Vpmaddubsw = packed::<integer::Pmaddubsw>, Vpmulld = wide::pmulld, Vpmuldq = wide::pmuldq,
        Vpminsb = wide::pminsb, Vpmaxsb = wide::pmaxsb, Vpminuw = wide::pminuw, Vpmaxuw = wide::pmaxuw,
        Vpminsd = wide::pminsd, Vpmaxsd = wide::pmaxsd, Vpminud = wide::pminud, Vpmaxud = wide::pmaxud,
        Vpcmpeqq = wide::pcmpeqq, Vpcmpgtq = wide::pcmpgtq, Vpackusdw = wide::packusdw,
        Vphminposuw = wide::phminposuw, Vpsllvd = wide::vpsllvd, Vpsrlvd = wide::vpsrlvd,
        Vpsravd = wide::vpsravd, Vpsllvq = wide::vpsllvq, Vpsrlvq = wide::vpsrlvq,
    }
    (Any, Shape::shifted(3), lanes) {
        Vmpsadbw = wide::mpsadbw,
    }
    // A count is the same for both lanes.
    (Count, Shape::SAME, lanes) {
        Vpsllw = packed::<integer::Psllw>, Vpslld = packed::<integer::Pslld>,
        Vpsllq = packed::<integer::Psllq>, Vpsrlw = packed::<integer::Psrlw>,
        Vpsrld = packed::<integer::Psrld>, Vpsrlq = packed::<integer::Psrlq>,
        Vpsraw = packed::<integer::Psraw>, Vpsrad = packed::<integer::Psrad>,
        Vpslldq = packed::<integer::Pslldq>, Vpsrldq = packed::<integer::Psrldq>,
    }
    (Any, Shape::SAME, lanes) {
        Vpsllw = packed::<integer::Psllw>, Vpslld = packed::<integer::Pslld>,
        Vpsllq = packed::<integer::Psllq>, Vpsrlw = packed::<integer::Psrlw>,
        Vpsrld = packed::<integer::Psrld>, Vpsrlq = packed::<integer::Psrlq>,
        Vpsraw = packed::<integer::Psraw>, Vpsrad = packed::<integer::Psrad>,
    }
    // Logic and shuffles by floating-point names.
    (Any, PLAIN, lanes) {
        Vandps = packed::<integer::Pand>, Vandpd = packed::<integer::Pand>,
        Vandnps = packed::<integer::Pandn>, Vandnpd = packed::<integer::Pandn>,
        Vorps = packed::<integer::Por>, Vorpd = packed::<integer::Por>, Vxorps = packed::<integer::Pxor>,
        Vxorpd = packed::<integer::Pxor>, Vunpcklps = packed::<integer::Punpckldq>,
        Vunpckhps = packed::<integer::Punpckhdq>, Vunpcklpd = packed::<integer::Punpcklqdq>,
        Vunpckhpd = packed::<integer::Punpckhqdq>, Vshufps = packed::<integer::Shufps>,
        Vblendvps = select::blendvps, Vblendvpd = select::blendvpd, Vpblendvb = select::pblendvb,
        Vpblendw = select::pblendw, Vmovddup = packed::<integer::Movddup>,
        Vmovsldup = packed::<integer::Movsldup>, Vmovshdup = packed::<integer::Movshdup>,
    }
    (Any, Shape::shifted(2), lanes) {
        Vshufpd = packed::<integer::Shufpd>, Vblendpd = select::blendpd,
    }
    (Any, Shape::shifted(4), lanes) {
        Vblendps = select::blendps, Vpblendd = select::blendps,
    }
    (ByImmediate, PLAIN, lanes) {
        Vpermilps = select::vpermilps_immediate,
    }
    (ByImmediate, Shape::shifted(2), lanes) {
        Vpermilpd = select::vpermilpd_immediate,
    }
    (Any, PLAIN, lanes) {
        Vpermilps = select::vpermilps, Vpermilpd = select::vpermilpd,
    }
    // Floating point.
    (Any, PLAIN, lanes) {
        Vaddps = pure::<arith::Addps>, Vaddpd = pure::<arith::Addpd>, Vsubps = pure::<arith::Subps>,
        Vsubpd = pure::<arith::Subpd>, Vmulps = pure::<arith::Mulps>, Vmulpd = pure::<arith::Mulpd>,
        Vdivps = pure::<arith::Divps>, Vdivpd = pure::<arith::Divpd>, Vminps = pure::<arith::Minps>,
        Vminpd = pure::<arith::Minpd>, Vmaxps = pure::<arith::Maxps>, Vmaxpd = pure::<arith::Maxpd>,
        Vsqrtps = pure::<arith::Sqrtps>, Vsqrtpd = pure::<arith::Sqrtpd>, Vrcpps = pure::<arith::Rcpps>,
        Vrsqrtps = pure::<arith::Rsqrtps>, Vaddsubps = pure::<arith::Addsubps>,
        Vaddsubpd = pure::<arith::Addsubpd>, Vhaddps = pure::<arith::Haddps>,
        Vhaddpd = pure::<arith::Haddpd>, Vhsubps = pure::<arith::Hsubps>, Vhsubpd = pure::<arith::Hsubpd>,
        Vaddss = pure::<arith::Addss>, Vsubss = pure::<arith::Subss>, Vmulss = pure::<arith::Mulss>,
        Vdivss = pure::<arith::Divss>, Vminss = pure::<arith::Minss>, Vmaxss = pure::<arith::Maxss>,
        Vsqrtss = pure::<arith::Sqrtss>, Vrcpss = pure::<arith::Rcpss>, Vrsqrtss = pure::<arith::Rsqrtss>,
        Vaddsd = pure::<arith::Addsd>, Vsubsd = pure::<arith::Subsd>, Vmulsd = pure::<arith::Mulsd>,
        Vdivsd = pure::<arith::Divsd>, Vminsd = pure::<arith::Minsd>, Vmaxsd = pure::<arith::Maxsd>,
        Vsqrtsd = pure::<arith::Sqrtsd>, Vcmpps = pure::<arith::Vcmpps>, Vcmppd = pure::<arith::Vcmppd>,
        Vcmpss = pure::<arith::Vcmpss>, Vcmpsd = pure::<arith::Vcmpsd>, Vroundps = rounding::roundps,
        Vroundpd = rounding::roundpd, Vroundss = rounding::roundss, Vroundsd = rounding::roundsd,
        Vdpps = rounding::dpps, Vdppd = rounding::dppd,
    }
    (Any, Shape::FLAGS, lanes) {
        Vcomiss = pure::<arith::Comiss>, Vcomisd = pure::<arith::Comisd>, Vucomiss = pure::<arith::Ucomiss>,
        Vucomisd = pure::<arith::Ucomisd>, Vptest = wide::ptest, Vtestps = wide::vtestps,
        Vtestpd = wide::vtestpd,
    }
    // Conversions.
    (Any, PLAIN, lanes) {
        Vcvtdq2ps = pure::<convert::Cvtdq2ps>, Vcvtps2dq = pure::<QuadToIntegers<false>>,
        Vcvttps2dq = pure::<QuadToIntegers<true>>, Vcvtss2sd = pure::<convert::Cvtss2sd>,
        Vcvtsd2ss = pure::<convert::Cvtsd2ss>,
    }
    (Any, Shape::from(8), lanes) {
        Vcvtdq2pd = pure::<convert::Cvtdq2pd>, Vcvtps2pd = pure::<convert::Cvtps2pd>,
        Vcvtph2ps = half::vcvtph2ps,
    }
    (Any, Shape::HALVES, lanes) {
        Vcvtpd2ps = pure::<convert::Cvtpd2ps>, Vcvtpd2dq = pure::<PairToIntegers<Double, false>>,
        Vcvttpd2dq = pure::<PairToIntegers<Double, true>>, Vcvtps2ph = half::vcvtps2ph,
    }
    (From4, PLAIN, lanes) {
        Vcvtsi2ss = pure::<ScalarFromInteger<Single, 32>>,
        Vcvtsi2sd = pure::<ScalarFromInteger<Double, 32>>,
    }
    (From8, PLAIN, lanes) {
        Vcvtsi2ss = pure::<ScalarFromInteger<Single, 64>>,
        Vcvtsi2sd = pure::<ScalarFromInteger<Double, 64>>,
    }
    (To4, PLAIN, lanes) {
        Vcvtss2si = pure::<ScalarToInteger<Single, 32, false>>,
        Vcvttss2si = pure::<ScalarToInteger<Single, 32, true>>,
        Vcvtsd2si = pure::<ScalarToInteger<Double, 32, false>>,
        Vcvttsd2si = pure::<ScalarToInteger<Double, 32, true>>,
    }
    (To8, PLAIN, lanes) {
        Vcvtss2si = pure::<ScalarToInteger<Single, 64, false>>,
        Vcvttss2si = pure::<ScalarToInteger<Single, 64, true>>,
        Vcvtsd2si = pure::<ScalarToInteger<Double, 64, false>>,
        Vcvttsd2si = pure::<ScalarToInteger<Double, 64, true>>,
    }
    // Moves.
    (Any, Shape::ALIGNED, lanes) {
        Vmovaps = select::copy, Vmovapd = select::copy, Vmovdqa = select::copy, Vmovntps = select::copy,
        Vmovntpd = select::copy, Vmovntdq = select::copy, Vmovntdqa = select::copy,
    }
    (Any, PLAIN, lanes) {
        Vmovups = select::copy, Vmovupd = select::copy, Vmovdqu = select::copy, Vlddqu = select::copy,
        Vmovd = select::copy, Vmovq = packed::<integer::CopyQuad>, Vmovlhps = packed::<integer::LowToHigh>,
        Vmovhlps = packed::<integer::HighToLow>,
    }
    (Registers, PLAIN, lanes) {
        Vmovss = packed::<integer::LowSingle>, Vmovsd = packed::<integer::LowQuad>,
    }
    (Load, PLAIN, lanes) {
        Vmovss = select::copy, Vmovsd = select::copy, Vmovlps = packed::<integer::LowQuad>,
        Vmovlpd = packed::<integer::LowQuad>, Vmovhps = packed::<integer::LowToHigh>,
        Vmovhpd = packed::<integer::LowToHigh>,
    }
    (Store, PLAIN, lanes) {
        Vmovss = select::copy, Vmovsd = select::copy, Vmovlps = select::copy, Vmovlpd = select::copy,
        Vmovhps = packed::<integer::High>, Vmovhpd = packed::<integer::High>,
    }
    (Any, Shape::bits(4), lanes) {
        Vmovmskps = packed::<integer::Movmskps>,
    }
    (Any, Shape::bits(2), lanes) {
        Vmovmskpd = packed::<integer::Movmskpd>,
    }
    (Any, Shape::bits(16), lanes) {
        Vpmovmskb = packed::<integer::Pmovmskb>,
    }
    // Parts of registers.
    (Any, PLAIN, lanes) {
        Vpinsrb = select::pinsrb, Vpinsrw = select::pinsrw, Vpinsrd = select::pinsrd,
        Vpinsrq = select::pinsrq, Vpextrb = select::pextrb, Vpextrw = select::pextrw,
        Vpextrd = select::pextrd, Vpextrq = select::pextrq, Vextractps = select::pextrd,
    }
    (Registers, PLAIN, lanes) {
        Vinsertps = select::insertps,
    }
    (Load, PLAIN, lanes) {
        Vinsertps = select::insertps_memory,
    }
    (Any, Shape::from(8), lanes) {
        Vpmovsxbw = select::pmovsxbw, Vpmovsxwd = select::pmovsxwd, Vpmovsxdq = select::pmovsxdq,
        Vpmovzxbw = select::pmovzxbw, Vpmovzxwd = select::pmovzxwd, Vpmovzxdq = select::pmovzxdq,
    }
    (Any, Shape::from(4), lanes) {
        Vpmovsxbd = select::pmovsxbd, Vpmovsxwq = select::pmovsxwq, Vpmovzxbd = select::pmovzxbd,
        Vpmovzxwq = select::pmovzxwq,
    }
    (Any, Shape::from(2), lanes) {
        Vpmovsxbq = select::pmovsxbq, Vpmovzxbq = select::pmovzxbq,
    }
    (Any, Shape::SAME, lanes) {
        Vbroadcastss = select::broadcast32, Vbroadcastsd = select::broadcast64,
        Vbroadcastf128 = select::copy, Vbroadcasti128 = select::copy, Vpbroadcastb = select::broadcast8,
        Vpbroadcastw = select::broadcast16, Vpbroadcastd = select::broadcast32,
        Vpbroadcastq = select::broadcast64,
    }
    // Between lanes.
    (Any, PLAIN, across) {
        Vpermq = select::permute64, Vpermpd = select::permute64, Vpermd = select::permute32,
        Vpermps = select::permute32, Vperm2f128 = select::permute128, Vperm2i128 = select::permute128,
        Vinsertf128 = select::insert128, Vinserti128 = select::insert128, Vextractf128 = select::extract128,
        Vextracti128 = select::extract128,
    }
    // AES-NI and PCLMULQDQ with VEX.
    (Any, PLAIN, lanes) {
        Vaesenc = crypto::aesenc, Vaesenclast = crypto::aesenclast, Vaesdec = crypto::aesdec,
        Vaesdeclast = crypto::aesdeclast, Vaesimc = crypto::aesimc,
        Vaeskeygenassist = crypto::aeskeygenassist, Vpclmulqdq = crypto::pclmulqdq,
    }
    // FMA3.
    (Any, PLAIN, lanes) {
        Vfmadd132ps = fma::ps::<132, { fma::ADD }>, Vfmadd132pd = fma::pd::<132, { fma::ADD }>,
        Vfmadd132ss = fma::ss::<132, { fma::ADD }>, Vfmadd132sd = fma::sd::<132, { fma::ADD }>,
        Vfmadd213ps = fma::ps::<213, { fma::ADD }>, Vfmadd213pd = fma::pd::<213, { fma::ADD }>,
        Vfmadd213ss = fma::ss::<213, { fma::ADD }>, Vfmadd213sd = fma::sd::<213, { fma::ADD }>,
        Vfmadd231ps = fma::ps::<231, { fma::ADD }>, Vfmadd231pd = fma::pd::<231, { fma::ADD }>,
        Vfmadd231ss = fma::ss::<231, { fma::ADD }>, Vfmadd231sd = fma::sd::<231, { fma::ADD }>,
        Vfmsub132ps = fma::ps::<132, { fma::SUB }>, Vfmsub132pd = fma::pd::<132, { fma::SUB }>,
        Vfmsub132ss = fma::ss::<132, { fma::SUB }>, Vfmsub132sd = fma::sd::<132, { fma::SUB }>,
        Vfmsub213ps = fma::ps::<213, { fma::SUB }>, Vfmsub213pd = fma::pd::<213, { fma::SUB }>,
        Vfmsub213ss = fma::ss::<213, { fma::SUB }>, Vfmsub213sd = fma::sd::<213, { fma::SUB }>,
        Vfmsub231ps = fma::ps::<231, { fma::SUB }>, Vfmsub231pd = fma::pd::<231, { fma::SUB }>,
        Vfmsub231ss = fma::ss::<231, { fma::SUB }>, Vfmsub231sd = fma::sd::<231, { fma::SUB }>,
        Vfnmadd132ps = fma::ps::<132, { fma::NEGATED_ADD }>, Vfnmadd132pd = fma::pd::<132, { fma::NEGATED_ADD }>,
        Vfnmadd132ss = fma::ss::<132, { fma::NEGATED_ADD }>, Vfnmadd132sd = fma::sd::<132, { fma::NEGATED_ADD }>,
        Vfnmadd213ps = fma::ps::<213, { fma::NEGATED_ADD }>, Vfnmadd213pd = fma::pd::<213, { fma::NEGATED_ADD }>,
        Vfnmadd213ss = fma::ss::<213, { fma::NEGATED_ADD }>, Vfnmadd213sd = fma::sd::<213, { fma::NEGATED_ADD }>,
        Vfnmadd231ps = fma::ps::<231, { fma::NEGATED_ADD }>, Vfnmadd231pd = fma::pd::<231, { fma::NEGATED_ADD }>,
        Vfnmadd231ss = fma::ss::<231, { fma::NEGATED_ADD }>, Vfnmadd231sd = fma::sd::<231, { fma::NEGATED_ADD }>,
        Vfnmsub132ps = fma::ps::<132, { fma::NEGATED_SUB }>, Vfnmsub132pd = fma::pd::<132, { fma::NEGATED_SUB }>,
        Vfnmsub132ss = fma::ss::<132, { fma::NEGATED_SUB }>, Vfnmsub132sd = fma::sd::<132, { fma::NEGATED_SUB }>,
        Vfnmsub213ps = fma::ps::<213, { fma::NEGATED_SUB }>, Vfnmsub213pd = fma::pd::<213, { fma::NEGATED_SUB }>,
        Vfnmsub213ss = fma::ss::<213, { fma::NEGATED_SUB }>, Vfnmsub213sd = fma::sd::<213, { fma::NEGATED_SUB }>,
        Vfnmsub231ps = fma::ps::<231, { fma::NEGATED_SUB }>, Vfnmsub231pd = fma::pd::<231, { fma::NEGATED_SUB }>,
        Vfnmsub231ss = fma::ss::<231, { fma::NEGATED_SUB }>, Vfnmsub231sd = fma::sd::<231, { fma::NEGATED_SUB }>,
        Vfmaddsub132ps = fma::ps::<132, { fma::ADD_SUB }>, Vfmaddsub132pd = fma::pd::<132, { fma::ADD_SUB }>,
        Vfmaddsub213ps = fma::ps::<213, { fma::ADD_SUB }>, Vfmaddsub213pd = fma::pd::<213, { fma::ADD_SUB }>,
        Vfmaddsub231ps = fma::ps::<231, { fma::ADD_SUB }>, Vfmaddsub231pd = fma::pd::<231, { fma::ADD_SUB }>,
        Vfmsubadd132ps = fma::ps::<132, { fma::SUB_ADD }>, Vfmsubadd132pd = fma::pd::<132, { fma::SUB_ADD }>,
        Vfmsubadd213ps = fma::ps::<213, { fma::SUB_ADD }>, Vfmsubadd213pd = fma::pd::<213, { fma::SUB_ADD }>,
        Vfmsubadd231ps = fma::ps::<231, { fma::SUB_ADD }>, Vfmsubadd231pd = fma::pd::<231, { fma::SUB_ADD }>,
    }
}
