//! What a merge patch may hold: of each object within, any part.
//!
//! A resource's own fields are all optional in the body of its PATCH. Those within were made for requests that bring all of
//! them; here each gets a sibling, `…Change`, that demands none. Which kind of several it is may be left out, too: it is
//! that of what is there.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{
    AdditionalProperties, AnyOf, Array, Object, ObjectBuilder, OneOf, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

use super::closed::{SCHEMAS, inline};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Lets every PATCH of `document` bring parts of objects.
pub(super) fn admit(document: &mut OpenApi) {
    let Some(mut components) = document.components.take() else { return };
    let mut parts = Parts { whole: components.schemas.clone(), made: Schemas::new() };
    for item in document.paths.paths.values_mut() {
        let Some(body) = item.patch.as_mut().and_then(|operation| operation.request_body.as_mut()) else {
            continue;
        };
        for content in inline(body).into_iter().flat_map(|body| body.content.values_mut()) {
            let Some(RefOr::Ref(reference)) = inline(content).and_then(|content| content.schema.as_ref())
            else {
                continue;
            };
            let Some(RefOr::T(Schema::Object(body))) = named(reference, &mut components.schemas) else {
                continue;
            };
            body.properties.values_mut().for_each(|field| parts.admit(field));
        }
    }
    components.schemas.append(&mut parts.made);
    document.components = Some(components);
}

fn named<'a>(reference: &Ref, schemas: &'a mut Schemas) -> Option<&'a mut RefOr<Schema>> {
    schemas.get_mut(reference.ref_location.strip_prefix(SCHEMAS)?)
}

struct Parts {
    /// Components that are brought as a whole.
    whole: Schemas,
    /// Their siblings.
    made: Schemas,
}

impl Parts {
    /// Lets what a field holds be a part of it.
    fn admit(&mut self, field: &mut RefOr<Schema>) {
        match field {
            RefOr::Ref(reference) => self.admit_named(reference),
            RefOr::T(Schema::Object(object)) => self.admit_object(object),
            RefOr::T(Schema::Array(array)) => array.default = None,
            RefOr::T(Schema::OneOf(one_of)) => {
                one_of.default = None;
                one_of.items.iter_mut().for_each(|item| self.admit(item));
                if one_of.items.iter().filter(|item| is_object(item)).count() > 1 {
                    // A part may be one of several.
                    let mut any_of = AnyOf::new();
                    any_of.items = std::mem::take(&mut one_of.items);
                    any_of.description = one_of.description.take();
                    *field = RefOr::T(Schema::AnyOf(any_of));
                }
            }
            RefOr::T(_) => {}
        }
    }

    fn admit_named(&mut self, reference: &mut Ref) {
        let Some(name) = reference.ref_location.strip_prefix(SCHEMAS).map(str::to_owned) else { return };
        let Some(whole) = self.whole.get(&name).filter(|whole| holds_objects(whole)).cloned() else { return };
        let sibling = format!("{name}Change");
        reference.ref_location = format!("{SCHEMAS}{sibling}");
        assert!(!self.whole.contains_key(&sibling), "{sibling} is something else");
        if !self.made.contains_key(&sibling) {
            // Known before it is made, since it may hold itself.
            self.made.insert(sibling.clone(), whole.clone());
            let mut part = whole;
            self.admit(&mut part);
            describe(&mut part);
            self.made.insert(sibling, part);
        }
    }

    fn admit_object(&mut self, object: &mut Object) {
        object.default = None;
        if !object.properties.is_empty() {
            object.example = None;
        }
        // What is written only is not there to be merged with.
        let (kept, needed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut object.required).into_iter().partition(|name| is_write_only(object, name));
        object.required = kept;
        for (name, field) in &mut object.properties {
            self.admit(field);
            if !needed.contains(name) && !object.required.contains(name) {
                admit_null(field);
            }
        }
        if let Some(AdditionalProperties::RefOr(values)) = object.additional_properties.as_deref_mut() {
            self.admit(values);
            admit_null(values);
        }
    }
}

fn is_write_only(object: &Object, field: &str) -> bool {
    matches!(object.properties.get(field), Some(RefOr::T(Schema::Object(field))) if field.write_only == Some(true))
}

fn describe(part: &mut RefOr<Schema>) {
    let description = match part {
        RefOr::T(Schema::Object(object)) => &mut object.description,
        RefOr::T(Schema::OneOf(one_of)) => &mut one_of.description,
        RefOr::T(Schema::AnyOf(any_of)) => &mut any_of.description,
        RefOr::T(_) | RefOr::Ref(_) => return,
    };
    let text = description.take().unwrap_or_default();
    *description = Some(
        format!("{text}\n\nA part of it: what is absent stays as it is, null removes.").trim().to_owned(),
    );
}

/// Null removes what may be absent.
fn admit_null(field: &mut RefOr<Schema>) {
    let null = || RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::Null).build()));
    match field {
        RefOr::T(Schema::OneOf(one_of)) if one_of.items.iter().any(is_null) => {}
        RefOr::T(Schema::AnyOf(any_of)) => any_of.items.push(null()),
        RefOr::T(Schema::Object(Object { schema_type, .. }) | Schema::Array(Array { schema_type, .. }))
            if is_of_null(schema_type) => {}
        field => {
            let mut one_of = OneOf::new();
            let null = null();
            one_of.items = vec![std::mem::replace(field, null.clone()), null];
            *field = RefOr::T(Schema::OneOf(one_of));
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if is_of_null(&object.schema_type))
}

fn is_of_null(schema_type: &SchemaType) -> bool {
    match schema_type {
        SchemaType::Type(one) => *one == Type::Null,
        SchemaType::Array(several) => several.contains(&Type::Null),
        SchemaType::AnyValue => true,
    }
}

fn is_object(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if !object.properties.is_empty())
}

/// Whether it is an object with fields, or one of several.
fn holds_objects(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.iter().any(|item| is_object(item) || matches!(item, RefOr::Ref(_)))
        }
        schema => is_object(schema),
    }
}
