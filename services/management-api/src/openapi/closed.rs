//! What a request may hold, said so that a strict validator agrees with serde, which refuses unknown fields.
//!
//! The schemas made of the types say so only in part. A variant of a tagged enum leaves its fields open. One that holds
//! another type is "all of" that type, which admits no tag, and of the tag: no document is both. So in everything that a
//! request can hold such a variant becomes one object with all fields, and every object with fields admits no others.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object};
use utoipa::openapi::{AllOf, OpenApi, RefOr, Schema};

/// Where references to schemas lead.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Closes everything that a request of `document` can hold.
pub(super) fn close(document: &mut OpenApi) {
    let Some(mut components) = document.components.take() else { return };
    let open = components.schemas.clone();
    let mut found = BTreeSet::new();
    for schema in bodies(document) {
        close_schema(schema, &open, &mut found);
    }
    let mut closed = BTreeSet::new();
    while let Some(name) = found.pop_first() {
        if let Some(schema) = components.schemas.get_mut(&name) {
            closed.insert(name);
            let mut further = BTreeSet::new();
            close_schema(schema, &open, &mut further);
            found.extend(further.difference(&closed).cloned());
        }
    }
    document.components = Some(components);
    forget_unused(document, &open);
}

fn bodies(document: &mut OpenApi) -> impl Iterator<Item = &mut RefOr<Schema>> {
    let operations = document.paths.paths.values_mut().flat_map(super::operations);
    let bodies = operations.filter_map(|operation| inline(operation.request_body.as_mut()?));
    let contents = bodies.flat_map(|body| body.content.values_mut());
    contents.filter_map(|content| inline(content)?.schema.as_mut())
}

pub(super) fn inline<T>(value: &mut RefOr<T>) -> Option<&mut T> {
    match value {
        RefOr::T(value) => Some(value),
        RefOr::Ref(_) => None,
    }
}

/// Closes a schema and those within; the names of the components it refers to join `found`.
fn close_schema(schema: &mut RefOr<Schema>, open: &Schemas, found: &mut BTreeSet<String>) {
    match schema {
        RefOr::Ref(reference) => {
            found.extend(reference.ref_location.strip_prefix(SCHEMAS).map(str::to_owned));
        }
        RefOr::T(Schema::Object(object)) => close_object(object, open, found),
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                close_schema(items, open, found);
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.iter_mut().for_each(|item| close_schema(item, open, found));
        }
        RefOr::T(Schema::AnyOf(any_of)) => {
            any_of.items.iter_mut().for_each(|item| close_schema(item, open, found));
        }
        RefOr::T(Schema::AllOf(all_of)) => {
            if let Some(mut object) = merged(all_of, open) {
                close_object(&mut object, open, found);
                *schema = RefOr::T(Schema::Object(object));
            }
        }
        RefOr::T(_) => {}
    }
}

fn close_object(object: &mut Object, open: &Schemas, found: &mut BTreeSet<String>) {
    object.properties.values_mut().for_each(|property| close_schema(property, open, found));
    match object.additional_properties.as_deref_mut() {
        Some(AdditionalProperties::RefOr(values)) => close_schema(values, open, found),
        Some(AdditionalProperties::FreeForm(_)) => {}
        None if object.properties.is_empty() => {}
        None => object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false))),
    }
}

/// All of these objects as one; `None` when one of them is no object.
fn merged(all_of: &AllOf, open: &Schemas) -> Option<Object> {
    let objects: Vec<&Object> = all_of.items.iter().map(|item| object(item, open)).collect::<Option<_>>()?;
    let mut merged = Object::default();
    merged.description.clone_from(&all_of.description);
    for object in objects {
        merged.properties.extend(object.properties.clone());
        merged.required.extend(object.required.iter().cloned());
        let texts = [merged.description.take(), object.description.clone()];
        let texts: Vec<String> = texts.into_iter().flatten().collect();
        merged.description = (!texts.is_empty()).then(|| texts.join("\n\n"));
    }
    merged.example.clone_from(&all_of.example);
    Some(merged)
}

fn object<'a>(schema: &'a RefOr<Schema>, open: &'a Schemas) -> Option<&'a Object> {
    match schema {
        RefOr::T(Schema::Object(object)) => Some(object),
        RefOr::Ref(reference) => object(open.get(reference.ref_location.strip_prefix(SCHEMAS)?)?, open),
        RefOr::T(_) => None,
    }
}

/// Removes the components that only stood in what is one object now.
fn forget_unused(document: &mut OpenApi, open: &Schemas) {
    let text = serde_json::to_string(document).expect("a document of strings serialises");
    let components = document.components.get_or_insert_default();
    for name in open.keys() {
        if !text.contains(&format!("\"{SCHEMAS}{name}\"")) {
            components.schemas.remove(name);
        }
    }
}
