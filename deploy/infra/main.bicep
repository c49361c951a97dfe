// What dicom_assets needs in Azure: storage for the tables, and an identity with two roles.
// The DICOM service is there already, and only referred to. How to use it: docs/operate/azure.md.
targetScope = 'resourceGroup'

@description('Name of the storage account; it is made, or brought to what is said here.')
@minLength(3)
@maxLength(24)
param accountName string

@description('Workspace of Azure Health Data Services that the DICOM service belongs to.')
param dicomWorkspace string

@description('Name of the DICOM service in its workspace.')
param dicomService string

@description('Resource group of the DICOM service, in the same subscription.')
param dicomResourceGroup string = resourceGroup().name

@description('Container of the tables.')
param containerName string = 'dicom'

@description('Folder of the tables in the container.')
param folder string = 'tables'

@description('Name of the managed identity that is made.')
param identityName string = 'dicom-assets'

@description('Object ID of a service principal to use in place of a managed identity.')
param servicePrincipalObjectId string = ''

@description('How long Azure keeps what is deleted: values of patients last so much longer.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 7

@description('Public addresses (CIDR) that may reach the account; none given, all may.')
param allowedAddresses array = []

@description('Region of the account and the identity.')
param location string = resourceGroup().location

@description('ZRS keeps three copies in three zones; LRS is cheaper and keeps them in one.')
param sku string = 'Standard_ZRS'

// Storage Blob Data Contributor
var contributorRole = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var isManaged = empty(servicePrincipalObjectId)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (isManaged) {
  name: identityName
  location: location
}

// The identity is asked only where it is made.
#disable-next-line BCP318
var principalId = isManaged ? identity.properties.principalId : servicePrincipalObjectId

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: accountName
  location: location
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    isHnsEnabled: true
    accessTier: 'Hot'
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    allowCrossTenantReplication: false
    networkAcls: {
      bypass: 'None'
      defaultAction: empty(allowedAddresses) ? 'Allow' : 'Deny'
      ipRules: [for address in allowedAddresses: {
        value: address
        action: 'Allow'
      }]
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: containerName
  properties: {
    publicAccess: 'None'
  }
}

// A table's file may be years old and alive: no rule may delete, or archive, a table by age. Only
// what a killed `dicom-assets check` left is deleted so; the rest is done by the nightly vacuum.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'remains-of-checks'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${containerName}/${folder}/_dicom_assets_check/'
              ]
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: 1
                }
              }
            }
          }
        }
      ]
    }
  }
}

resource writer 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, isManaged ? identity.id : servicePrincipalObjectId, contributorRole)
  scope: container
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', contributorRole)
  }
}

module reader 'reader.bicep' = {
  name: 'dicom-assets-reader'
  scope: resourceGroup(dicomResourceGroup)
  params: {
    dicomWorkspace: dicomWorkspace
    dicomService: dicomService
    principalId: principalId
  }
}

output DICOM_SERVICE_URL string = reader.outputs.url
output DICOM_TABLES_URL string = 'abfss://${containerName}@${account.name}.dfs.${environment().suffixes.storage}/${folder}'
#disable-next-line BCP318
output AZURE_CLIENT_ID string = isManaged ? identity.properties.clientId : ''
output identityId string = isManaged ? identity.id : ''
