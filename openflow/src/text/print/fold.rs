//! Lists of names with what they have in common written once:
//! `tun_{src,dst,ipv6_{src,dst}} reg0...reg15`.

/// Writes names, in the order given: runs of neighbours with the same first words share them, runs of
/// numbers are written by first and last.
pub(super) fn fold(names: &[&str]) -> String {
    groups(names).join(" ")
}

fn groups(names: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < names.len() {
        let run = numbers(&names[i..]);
        if run > 2 {
            out.push(format!("{}...{}", names[i], names[i + run - 1]));
            i += run;
            continue;
        }
        let word = |n: &str| n.find('_').map(|at| n[..=at].to_owned());
        let Some(first) = word(names[i]) else {
            out.push(names[i].to_owned());
            i += 1;
            continue;
        };
        let same = names[i..]
            .iter()
            .take_while(|n| word(n).as_ref() == Some(&first))
            .count();
        if same == 1 {
            out.push(names[i].to_owned());
        } else {
            let rest: Vec<&str> = names[i..i + same]
                .iter()
                .map(|n| &n[first.len()..])
                .collect();
            out.push(format!("{first}{{{}}}", groups(&rest).join(",")));
        }
        i += same;
    }
    out
}

/// How many names from the first on differ only by a number that goes up by one.
fn numbers(names: &[&str]) -> usize {
    let split = |n: &str| {
        let stem = n.trim_end_matches(|c: char| c.is_ascii_digit());
        n[stem.len()..]
            .parse::<u32>()
            .ok()
            .map(|k| (stem.to_owned(), k))
    };
    let Some((stem, first)) = names.first().and_then(|n| split(n)) else {
        return 0;
    };
    let expected = (first..).map(|k| Some((stem.clone(), k)));
    names
        .iter()
        .zip(expected)
        .take_while(|(n, e)| split(n) == *e)
        .count()
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn neighbours_share_their_first_words() {
        let text = "tun_id tun_src tun_ipv6_src tun_ipv6_dst tun_metadata0 tun_metadata1 tun_metadata2 metadata \
                    in_port reg0 reg1 reg2 eth_src eth_dst nw_tos ip_dscp nw_ecn nw_ttl nsh_spi nsh_c1 nsh_c2 nsh_c3";
        let names: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            fold(&names),
            "tun_{id,src,ipv6_{src,dst},metadata0...metadata2} metadata in_port reg0...reg2 eth_{src,dst} \
             nw_tos ip_dscp nw_{ecn,ttl} nsh_{spi,c1...c3}"
        );
    }
}
