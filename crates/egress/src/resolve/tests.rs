use super::*;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn only_what_passed_is_used() {
    let found = addresses(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1"]);
    assert_eq!(passed(found, &[]).unwrap(), addresses(&["1.1.1.1", "2606:4700::1"]));
}

#[test]
fn a_name_with_private_addresses_only_is_refused() {
    let refused = passed(addresses(&["10.0.0.1", "::1"]), &[]).unwrap_err();
    assert!(matches!(refused, Refused::NotPublic(blocked) if blocked.reason == "private"));
    let refused = passed(Vec::new(), &[]).unwrap_err();
    assert!(matches!(refused, Refused::NoAddress));
}

#[test]
fn a_name_with_a_thousand_addresses_is_tried_at_a_few() {
    let found = (0..1_000_u32).map(|at| Ipv4Addr::from(0x0101_0101 + at).into()).collect();
    assert_eq!(passed(found, &[]).unwrap().len(), ADDRESSES);
}

#[test]
fn families_alternate_and_either_will_do() {
    let (v4, v6) = (addresses(&["1.1.1.1", "1.1.1.2", "1.1.1.3"]), addresses(&["2606:4700::1"]));
    let both = merged(Some(Ok(v4.clone())), Some(Ok(v6.clone()))).unwrap();
    assert_eq!(both, addresses(&["1.1.1.1", "2606:4700::1", "1.1.1.2", "1.1.1.3"]));
    assert_eq!(merged(Some(Ok(v4.clone())), None).unwrap(), v4);
    assert_eq!(merged(Some(Err(Refused::NoAddress)), Some(Ok(v6.clone()))).unwrap(), v6);
    let unresolved = || Some(Err(Refused::Unresolved("away".to_owned())));
    assert!(matches!(merged(Some(Err(Refused::NoAddress)), unresolved()), Err(Refused::Unresolved(_))));
    assert!(matches!(merged(unresolved(), Some(Err(Refused::NoAddress))), Err(Refused::Unresolved(_))));
    assert!(matches!(merged(Some(Err(Refused::NoName)), Some(Err(Refused::NoName))), Err(Refused::NoName)));
    let private = || Some(passed(addresses(&["fd00::1"]), &[]));
    assert_eq!(merged(Some(Ok(v4.clone())), private()).unwrap(), v4);
    assert!(matches!(merged(Some(Err(Refused::NoAddress)), private()), Err(Refused::NotPublic(_))));
    assert!(matches!(merged(unresolved(), private()), Err(Refused::Unresolved(_))));
}
